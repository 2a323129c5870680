//! Speed of the parts: `just bench`, or `just bench step` for one of them. Figures are kept in `benches/RESULTS.md`.

use ablate::data::{self, Images};
use ablate::device::Pool;
use ablate::evaluate::{Features, linear_probe, nearest_neighbours};
use ablate::executor::{self, Setting};
use ablate::experiment::recipe::{
    Augmentation, Backbone, Backend, BatchNormScope, BlurKind, Builtin, Dataset, DecayScope, Filter, Head, HueKind,
    Initialization, Knn, LarsFlavour, LinearProbe, Metric, Model, Numerics, Optimizer, Split, Stem,
};
use ablate::model::initialize::initialize;
use ablate::model::plan::Parameter;
use ablate::model::registry;
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
    bencher.bench_local(|| {
        optimizer::update(&optimizer, &layout, &mut parameters, &gradients, &mut slots, step, &pool);
    });
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
