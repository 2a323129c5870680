//! What every comparison needs: the two executors in one state, the same views, and how far two lists of numbers are apart.

mod examples;
mod losses;
mod maps;
mod operations;
mod smooth;
mod supervised;
mod threads;
mod training;
mod whole;

use std::sync::LazyLock;

use crate::executor::cpu::CpuExecutor;
use crate::executor::reference::ReferenceExecutor;
use crate::executor::{Executor, Setting, State};
use crate::experiment::recipe::{
    Backbone, BatchNormScope, DecayScope, Head, Initialization, Loss, Model, Numerics, Optimizer, Stem,
};
use crate::model::initialize::initialize;
use crate::model::plan::{ParameterKind, Plan};
use crate::model::typed::{self, TypedModel};
use crate::model::{registry, twin};
use crate::ops::optimizer;
use crate::random::{Address, Purpose, Stream};

/// Height and width of the views of ResNet-18, in pixels.
const SIDE: u32 = 32;

/// Lightly's `SimCLRProjectionHead` for ResNet-18 on small images.
const LIGHTLY: Head =
    Head::Mlp { layers: 2, hidden: 512, output: 128, batch_norm: true, bias: false, output_shift: true };

const SGD: Optimizer =
    Optimizer::Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-4, decay: DecayScope::Weights };

const SCOPES: [BatchNormScope; 2] = [BatchNormScope::View, BatchNormScope::Joint];

/// n values in [−1, 1).
fn draws(salt: u32, n: usize) -> Vec<f32> {
    let mut stream = Stream::new(23, Address { example: salt, ..Address::of(Purpose::View) });
    (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// Euclidean distance, as a share of the second norm.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let squares = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
    squares.sum::<f64>().sqrt() / norm(expected)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    product / (norm(a) * norm(b))
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], bound: f64) {
    let distance = distance(found, expected);
    assert!(distance <= bound, "{what}: {distance:.2e} apart, at most {bound:.0e}");
}

/// Relative to the reference's.
fn assert_equal_losses(what: &str, [cpu, reference]: [f32; 2], bound: f64) {
    let (cpu, reference) = (f64::from(cpu), f64::from(reference));
    let apart = (cpu - reference).abs();
    assert!(apart <= bound * reference, "{what}: loss {cpu} on cpu, {reference} on reference, {apart:.2e} apart");
}

fn resnet18(stem: Stem, head: Head) -> Box<dyn TypedModel> {
    let initialization = Initialization::Torchvision;
    let model = Model { backbone: Backbone::ResNet18 { stem }, side: SIDE, head, initialization };
    registry::typed(&model).expect("a compiled model")
}

fn setting(batch: usize, batch_norm_scope: BatchNormScope) -> Setting {
    Setting {
        batch,
        n_views: 2,
        micro_batch: None,
        loss: Loss::NT_XENT,
        temperature: 0.5,
        batch_norm_scope,
        optimizer: SGD,
        numerics: Numerics::F32,
        threads: 2,
        device: 0,
    }
}

/// As training starts, but batch-norm scales are 1 ± ¼ and shifts ± ¼: at 1 and 0 they would hide in every product.
fn start(plan: &Plan) -> State {
    let (mut parameters, buffers) = initialize(plan, Initialization::Torchvision, 0);
    for (index, parameter) in plan.parameters.iter().enumerate() {
        match parameter.kind {
            ParameterKind::ConvWeight
            | ParameterKind::LinearWeight
            | ParameterKind::LinearBias { .. }
            | ParameterKind::HeldNormShift => {}
            ParameterKind::NormScale | ParameterKind::NormShift => {
                let moves = draws(1000 + index as u32, parameter.len());
                parameters[parameter.range()].iter_mut().zip(moves).for_each(|(value, moved)| *value += moved / 4.0);
            }
        }
    }
    State { parameters, buffers, optimizer: optimizer::slots(&SGD, plan.n_parameters()), bank: Vec::new(), step: 0 }
}

/// Of ResNet-18 with the ImageNet stem and Lightly's head, drawn once.
static LIGHTLY_START: LazyLock<State> = LazyLock::new(|| start(resnet18(Stem::ImageNet, LIGHTLY).plan()));

/// Both views of a batch: 2·batch × side × side × 3 in [−2, 2).
fn views(plan: &Plan, batch: usize, salt: u32) -> Vec<f32> {
    draws(salt, 2 * batch * plan.shape(plan.input).len()).iter().map(|x| 2.0 * x).collect()
}

fn cpu_executor(plan: &Plan, setting: &Setting, start: &State) -> CpuExecutor {
    let mut executor = CpuExecutor::new(plan.clone(), setting).expect("a machine that can");
    executor.load(start);
    executor
}

/// Both executors of one model, in one state.
struct Pair {
    cpu: CpuExecutor,
    reference: ReferenceExecutor,
    batch: usize,
}

impl Pair {
    fn new(model: Box<dyn TypedModel>, setting: &Setting, start: &State) -> Pair {
        let cpu = cpu_executor(model.plan(), setting, start);
        let mut reference = ReferenceExecutor::of_model(model, setting);
        reference.load(start);
        Pair { cpu, reference, batch: setting.batch }
    }

    fn of_small_twin(batch: usize, scope: BatchNormScope) -> Pair {
        let (backbone, head) = twin::small();
        let model = typed::build(&backbone, Some(&head));
        let start = start(model.plan());
        Pair::new(model, &setting(batch, scope), &start)
    }

    fn plan(&self) -> &Plan {
        self.cpu.plan()
    }

    /// The losses of one batch, cpu's first.
    fn forward_backward(&mut self, salt: u32) -> [f32; 2] {
        let views = views(self.plan(), self.batch, salt);
        let cpu = self.cpu.forward_backward(&views).expect("views fit");
        [cpu, self.reference.forward_backward(&views).expect("views fit")]
    }

    fn update(&mut self, learning_rate: f64) {
        self.cpu.update(learning_rate);
        self.reference.update(learning_rate);
    }

    /// Every parameter's name and its gradient on both, cpu's first.
    fn gradients(&self) -> Vec<(String, [Vec<f32>; 2])> {
        let [cpu, reference] = [self.cpu.gradients(), self.reference.gradients()];
        let of = |gradients: &[f32], range: std::ops::Range<usize>| gradients[range].to_vec();
        let parameters = self.plan().parameters.iter();
        parameters.map(|p| (p.name.clone(), [of(&cpu, p.range()), of(&reference, p.range())])).collect()
    }

    fn assert_equal_running_statistics(&self, what: &str, bound: f64) {
        let [cpu, reference] = [self.cpu.save().buffers, self.reference.save().buffers];
        for buffer in &self.plan().buffers {
            let range = buffer.offset..buffer.offset + buffer.len;
            assert_near(&format!("{what}: {}", buffer.name), &cpu[range.clone()], &reference[range], bound);
        }
    }

    /// Of 5 images that no batch holds.
    fn assert_equal_features(&mut self, what: &str, bound: f64) {
        let images = draws(900, 5 * self.plan().shape(self.plan().input).len());
        let cpu = self.cpu.features(&images).expect("images fit");
        let reference = self.reference.features(&images).expect("images fit");
        assert_near(&format!("{what}: features"), &cpu, &reference, bound);
    }
}
