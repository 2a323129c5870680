//! Speed of the parts: `just bench-parts`, `just bench-parts step` for one of them, `just bench-parts --ignored` for the
//! slow ones. Figures are kept in `benches/RESULTS.md`; `ablate bench kernels` has the operations of a step in place.

use ablate::data::{self, Images};
use ablate::device::Pool;
use ablate::evaluate::{Features, linear_probe, nearest_neighbours};
use ablate::executor::{self, Setting};
use ablate::experiment::recipe::{
    Augmentation, Backbone, Backend, BatchNormScope, BlurKind, Builtin, Dataset, DecayScope, Filter, Head, HueKind,
    Initialization, Knn, LarsFlavour, LinearProbe, Metric, Model, Numerics, Optimizer, Split, Stem,
};
use ablate::model::initialize::initialize;
use ablate::model::plan::{Parameter, Shape, Window};
use ablate::model::registry;
use ablate::ops::batch::Batch;
use ablate::ops::conv2d::{self, Convolution};
use ablate::ops::{nt_xent, optimizer};
use ablate::random::{Address, Purpose, Stream};
use ablate::views::Pipeline;
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

fn pool() -> Pool {
    Pool::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

fn draws(n: usize) -> Vec<f32> {
    let mut stream = Stream::new(1, Address::of(Purpose::View));
    (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
}

fn images() -> Images {
    let builtin = Builtin { n_classes: 10, train_per_class: 52, test_per_class: 1, seed: 0 };
    data::load(&Dataset::Builtin(builtin), Split::Official).expect("the built-in data").train.images
}

fn simclr(blur: Option<BlurKind>) -> Vec<Augmentation> {
    let jitter = Augmentation::ColorJitter {
        p: 0.8,
        brightness: 0.8,
        contrast: 0.8,
        saturation: 0.8,
        hue: 0.2,
        hue_kind: HueKind::Float,
    };
    let mut list = vec![
        Augmentation::RandomResizedCrop { scale: (0.08, 1.0), ratio: (0.75, 4.0 / 3.0), filter: Filter::Bilinear },
        Augmentation::HorizontalFlip { p: 0.5 },
        jitter,
        Augmentation::Grayscale { p: 0.2 },
    ];
    list.extend(blur.map(|kind| Augmentation::GaussianBlur { p: 0.5, sigma: (0.1, 2.0), kind }));
    list.push(Augmentation::Normalize { mean: [0.5; 3], std: [0.25; 3] });
    list
}

/// Views of 32×32 images, two a counted pair.
#[divan::bench(args = [None, Some(BlurKind::Gaussian), Some(BlurKind::PillowBoxes)])]
fn views(bencher: Bencher, blur: Option<BlurKind>) {
    let (images, pool, pipeline) = (images(), pool(), Pipeline::new(&simclr(blur), 32, 0));
    let examples: Vec<u32> = (0..256).collect();
    let mut out = vec![0.0; 2 * 256 * 32 * 32 * 3];
    bencher
        .counter(ItemsCount::new(256usize))
        .bench_local(|| pipeline.batch(&images, divan::black_box(&examples), 0, &pool, &mut out));
}

/// Forward, loss, backward and update; items are pairs of views.
#[divan::bench(args = [(Stem::ImageNet, 64), (Stem::ImageNet, 256), (Stem::Cifar, 32)], sample_count = 5, sample_size = 1)]
fn step(bencher: Bencher, (stem, batch): (Stem, usize)) {
    let head = Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };
    let backbone = Backbone::ResNet18 { stem };
    let model = Model { backbone, side: 32, head, initialization: Initialization::Torchvision };
    let optimizer = Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All };
    let batch_norm_scope = BatchNormScope::View;
    let setting =
        Setting { batch_norm_scope, optimizer, ..ablate::bench::setting(batch, Numerics::F32, pool().threads(), 0) };
    let mut executor = executor::build(&model, &setting, Backend::Cpu).expect("the cpu executor");
    let mut state = executor.save();
    (state.parameters, state.buffers) = initialize(executor.plan(), Initialization::Torchvision, 0);
    executor.load(&state);
    let views = draws(2 * batch * 32 * 32 * 3);
    bencher.counter(ItemsCount::new(batch)).bench_local(|| {
        let loss = executor.forward_backward(divan::black_box(&views)).expect("a loss");
        executor.update(0.01);
        loss
    });
}

/// Views of one convolution: those of a batch of 64, so that the largest map is 32 MiB.
const CONVOLVED: usize = 128;

/// A layer of ResNet-18: side of its input, channels, window.
#[derive(Clone, Copy)]
struct Layer(usize, usize, usize, usize, usize);

impl std::fmt::Display for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Layer(side, inputs, outputs, kernel, stride) = self;
        write!(f, "{kernel}x{kernel} s{stride} {inputs}->{outputs} on {side}x{side}")
    }
}

/// What the two stems have at 32×32, each size once: the stems, the 3×3 of the blocks, the steps down, two shortcuts.
const LAYERS: [Layer; 18] = [
    Layer(32, 3, 64, 7, 2),
    Layer(32, 3, 64, 3, 1),
    Layer(32, 64, 64, 3, 1),
    Layer(16, 128, 128, 3, 1),
    Layer(8, 256, 256, 3, 1),
    Layer(4, 512, 512, 3, 1),
    Layer(8, 64, 64, 3, 1),
    Layer(4, 128, 128, 3, 1),
    Layer(2, 256, 256, 3, 1),
    Layer(1, 512, 512, 3, 1),
    Layer(32, 64, 128, 3, 2),
    Layer(16, 128, 256, 3, 2),
    Layer(8, 256, 512, 3, 2),
    Layer(8, 64, 128, 3, 2),
    Layer(4, 128, 256, 3, 2),
    Layer(2, 256, 512, 3, 2),
    Layer(32, 64, 128, 1, 2),
    Layer(8, 64, 128, 1, 2),
];

/// Shapes, and one map of each, a weight and room to work in.
struct Maps {
    shapes: Convolution,
    input: Vec<f32>,
    output: Vec<f32>,
    weight: Vec<f32>,
    scratch: Vec<f32>,
}

impl Maps {
    fn of(Layer(side, inputs, outputs, kernel, stride): Layer) -> Maps {
        let batch = |channels, side| Batch::new(Shape::Map { channels, height: side, width: side }, CONVOLVED, 2);
        let window = Window { kernel, stride, padding: kernel / 2 };
        let shapes = Convolution { input: batch(inputs, side), output: batch(outputs, side.div_ceil(stride)), window };
        let [input, output, weight] = [shapes.input.len(), shapes.output.len(), shapes.weight_len()].map(draws);
        Maps { shapes, input, output, weight, scratch: vec![0.0; conv2d::cpu::scratch_len(&shapes)] }
    }

    /// Multiplications and additions of the definition, padding skipped.
    fn flop(&self) -> ItemsCount {
        ItemsCount::new(2 * self.shapes.products())
    }
}

/// Forward passes of convolutions; items are multiplications and additions, here and in the two below.
#[divan::bench(args = LAYERS, sample_count = 10, sample_size = 1)]
fn convolution_forward(bencher: Bencher, layer: Layer) {
    let (mut maps, pool) = (Maps::of(layer), pool());
    let mut nothing = vec![(); maps.shapes.output.n_blocks()];
    bencher.counter(maps.flop()).bench_local(|| {
        let Maps { shapes, input, output, weight, scratch } = &mut maps;
        pool.install(|| conv2d::cpu::forward(shapes, input, weight, scratch, output, &mut nothing, |_, _| {}));
    });
}

#[divan::bench(args = LAYERS, sample_count = 10, sample_size = 1)]
fn convolution_input_gradient(bencher: Bencher, layer: Layer) {
    let (mut maps, pool) = (Maps::of(layer), pool());
    bencher.counter(maps.flop()).bench_local(|| {
        let Maps { shapes, input, output, weight, scratch } = &mut maps;
        pool.install(|| conv2d::cpu::backward_input(shapes, output, weight, scratch, input, false));
    });
}

#[divan::bench(args = LAYERS, sample_count = 10, sample_size = 1)]
fn convolution_weight_gradient(bencher: Bencher, layer: Layer) {
    let (mut maps, pool) = (Maps::of(layer), pool());
    bencher.counter(maps.flop()).bench_local(|| {
        let Maps { shapes, input, output, weight, scratch } = &mut maps;
        pool.install(|| conv2d::weight_gradient::backward_weight(shapes, input, output, scratch, weight));
    });
}

/// Loss and gradient; (views, width).
#[divan::bench(args = [(512, 128), (2048, 128), (512, 2048)])]
fn nt_xent_loss(bencher: Bencher, (n_views, width): (usize, usize)) {
    let (projections, pool) = (draws(n_views * width), pool());
    let mut gradient = vec![0.0; n_views * width];
    let mut workspace = nt_xent::Workspace::new(n_views, width);
    bencher.bench_local(|| {
        nt_xent::forward_backward(divan::black_box(&projections), width, 0.5, &mut gradient, &mut workspace, &pool)
    });
}

/// One update of ResNet-18 and its head.
#[divan::bench(args = ["sgd", "lars", "adam"], sample_count = 20)]
fn update(bencher: Bencher, name: &str) {
    let head = Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };
    let backbone = Backbone::ResNet18 { stem: Stem::Cifar };
    let model = Model { backbone, side: 32, head, initialization: Initialization::Torchvision };
    let layout = registry::plan(&model).expect("a compiled model").parameters;
    let (momentum, weight_decay, decay) = (0.9, 1e-4, DecayScope::Weights);
    let optimizer = match name {
        "sgd" => Optimizer::Sgd { momentum, nesterov: false, weight_decay, decay },
        "lars" => {
            let flavour = LarsFlavour::Google;
            Optimizer::Lars { flavour, momentum, weight_decay, trust_coefficient: 0.001, decay }
        }
        _ => Optimizer::Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay, decay },
    };
    let n = layout.iter().map(Parameter::len).sum();
    let (mut parameters, gradients, pool) = (draws(n), draws(n), pool());
    let mut slots = optimizer::slots(&optimizer, n);
    let step = optimizer::Step { number: 1, learning_rate: 1e-4 };
    let mut updater = optimizer::Updater::new(&optimizer, &layout);
    bencher.bench_local(|| updater.update(&mut parameters, &gradients, &mut slots, step, &pool));
}

fn features(n: usize) -> Features {
    let labels = (0..n as u32).map(|index| index % 10).collect();
    Features { values: draws(n * 512), width: 512, labels }
}

/// Weighted k-NN of 1,000 queries on a bank of 50,000 features, 512 wide, k 200; items are queries.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn knn(bencher: Bencher) {
    let (bank, queries, pool) = (features(50_000), features(1_000), pool());
    let protocol = Knn { k: 200, temperature: 0.1, metric: Metric::Cosine, ..Knn::DEFAULT };
    bencher
        .counter(ItemsCount::new(1_000usize))
        .bench_local(|| nearest_neighbours::classify(&bank, &queries, 10, &protocol, &pool));
}

/// Ten epochs of the linear probe on 50,000 features, 512 wide; items are images.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn probe(bencher: Bencher) {
    let (bank, queries, pool) = (features(50_000), features(1_000), pool());
    let (momentum, weight_decay) = (0.9, 0.0);
    let protocol = LinearProbe {
        epochs: 10,
        batch: 256,
        learning_rate: 0.1,
        momentum,
        weight_decay,
        seed: 0,
        ..LinearProbe::DEFAULT
    };
    bencher
        .counter(ItemsCount::new(500_000usize))
        .bench_local(|| linear_probe::classify(&bank, &queries, 10, &protocol, &pool).expect("finite features"));
}

/// The k-NN of an epoch's end at the size of CIFAR-10: 10,000 queries on 50,000 features, 512 wide, k 200; items are queries.
#[divan::bench(ignore, sample_count = 3, sample_size = 1)]
fn knn_cifar10(bencher: Bencher) {
    let (bank, queries, pool) = (features(50_000), features(10_000), pool());
    bencher
        .counter(ItemsCount::new(10_000usize))
        .bench_local(|| nearest_neighbours::classify(&bank, &queries, 10, &Knn::DEFAULT, &pool));
}

/// The linear probe that a recipe has when it says no more, at the size of CIFAR-10; items are images of all epochs.
#[divan::bench(ignore, sample_count = 1, sample_size = 1)]
fn probe_cifar10(bencher: Bencher) {
    let (bank, queries, pool) = (features(50_000), features(10_000), pool());
    let protocol = LinearProbe::DEFAULT;
    let classify = || linear_probe::classify(&bank, &queries, 10, &protocol, &pool).expect("finite features");
    bencher.counter(ItemsCount::new(50_000 * u64::from(protocol.epochs))).bench_local(classify);
}
