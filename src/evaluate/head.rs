//! The projection head at rest: the features of its layers, from the backbone's features and the weights.
//!
//! Evaluation mode (running statistics), f32, on the processor with the operations of the `cpu` executor, whatever computed
//! the backbone. The backbone runs once for all layers that evaluations ask for.

use crate::device::Pool;
use crate::evaluate::Features;
use crate::executor::State;
use crate::experiment::recipe::Layer;
use crate::model::plan::{Op, Plan, ValueId};
use crate::ops::activation;
use crate::ops::batch::Batch;
use crate::ops::batch_norm::Statistics;
use crate::ops::batch_norm::cpu::{self as batch_norm, Affine};
use crate::ops::linear::{Layer as Linear, cpu as linear};

/// Rows that go through the head together.
const CHUNK_ROWS: usize = 4096;

/// A Plan and what is trained of it.
pub struct Head<'a> {
    pub plan: &'a Plan,
    pub state: &'a State,
}

impl Head<'_> {
    /// A layer's features of the images whose backbone features are `backbone`; none for a layer that the head does not have.
    ///
    /// # Panics
    /// When `backbone` has another width than the Plan, or the state another length.
    pub fn features(&self, backbone: &Features, layer: Layer, pool: &Pool) -> Option<Features> {
        let target = self.plan.layer(layer)?;
        let width = self.plan.shape(target).len();
        assert_eq!(backbone.width, self.plan.feature_width(), "features of another backbone");
        if target == self.plan.features {
            return Some(backbone.clone());
        }
        let chunks = backbone.values.chunks(CHUNK_ROWS * backbone.width);
        let values = pool.install(|| chunks.flat_map(|rows| self.forward(rows, target)).collect());
        Some(Features { values, width, labels: backbone.labels.clone() })
    }

    fn forward(&self, rows: &[f32], target: ValueId) -> Vec<f32> {
        let n = rows.len() / self.plan.feature_width();
        let mut values: Vec<Option<Vec<f32>>> = vec![None; self.plan.values.len()];
        values[self.plan.features.0] = Some(rows.to_vec());
        for op in &self.plan.ops {
            // Before the features there is nothing to compute, and behind the target nothing to want.
            if values[target.0].is_some() {
                break;
            }
            let inputs: Option<Vec<&[f32]>> = op.inputs().iter().map(|input| values[input.0].as_deref()).collect();
            let Some(inputs) = inputs else { continue };
            let mut y = vec![0.0; n * self.plan.shape(op.output()).len()];
            self.apply(op, n, &inputs, &mut y);
            values[op.output().0] = Some(y);
        }
        values[target.0].take().expect("a layer of the head follows from the features")
    }

    fn parameter(&self, index: usize) -> &[f32] {
        &self.state.parameters[self.plan.parameters[index].range()]
    }

    fn apply(&self, op: &Op, n: usize, inputs: &[&[f32]], y: &mut [f32]) {
        let batch = |value: ValueId| Batch::new(self.plan.shape(value), n, 1);
        match *op {
            Op::Linear { input, output, weight, bias } => {
                let (inputs_wide, outputs) = (self.plan.shape(input).len(), self.plan.shape(output).len());
                let layer = Linear { images: n, inputs: inputs_wide, outputs };
                let bias = bias.map(|bias| self.parameter(bias.0));
                linear::forward(&layer, inputs[0], self.parameter(weight.0), bias, y);
            }
            Op::BatchNorm { output, scale, shift, running_mean, running_var, activation, .. } => {
                let mut statistics = Statistics::default();
                let running = [running_mean, running_var].map(|id| {
                    let buffer = &self.plan.buffers[id.0];
                    &self.state.buffers[buffer.offset..buffer.offset + buffer.len]
                });
                statistics.set_running(running[0], running[1]);
                let affine = Affine { scale: self.parameter(scale.0), shift: self.parameter(shift.0) };
                let x = (inputs[0], inputs.get(1).copied());
                batch_norm::evaluate(&batch(output), affine, &statistics, activation, x, y);
            }
            Op::Activate { output, activation, .. } => {
                activation::cpu::forward(&batch(output), activation, inputs[0], y);
            }
            Op::Add { output, .. } => activation::cpu::add(&batch(output), inputs[0], inputs[1], y),
            Op::Conv2d { .. } | Op::Pool2d { .. } | Op::GlobalAveragePool { .. } => {
                unreachable!("no head has maps")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::cpu::CpuExecutor;
    use crate::executor::{Executor, Setting};
    use crate::experiment::recipe::{
        self, Backbone, BatchNormScope, DecayScope, Initialization, Loss, Numerics, Optimizer, Stem,
    };
    use crate::model::registry;
    use crate::ops::nt_xent::golden::values_f32;

    fn plan(head: recipe::Head) -> Plan {
        let backbone = Backbone::ResNet18 { stem: Stem::ImageNet };
        let model = recipe::Model { backbone, side: 32, head, initialization: Initialization::Torchvision };
        registry::plan(&model).expect("a compiled model")
    }

    fn executor(plan: Plan) -> CpuExecutor {
        let setting = Setting {
            batch: 2,
            n_views: 2,
            micro_batch: None,
            loss: Loss::NT_XENT,
            temperature: 0.5,
            batch_norm_scope: BatchNormScope::View,
            optimizer: Optimizer::Sgd { momentum: 0.0, nesterov: false, weight_decay: 0.0, decay: DecayScope::All },
            numerics: Numerics::F32,
            threads: 1,
            device: 0,
        };
        CpuExecutor::new(plan, &setting).expect("an executor")
    }

    fn state(plan: &Plan) -> State {
        let variances = |(index, value): (usize, f32)| if index % 3 == 0 { value } else { 0.5 + value.abs() };
        State {
            parameters: values_f32(1, plan.n_parameters(), 0.05),
            buffers: values_f32(2, plan.n_buffers(), 0.2)
                .into_iter()
                .map(f32::abs)
                .enumerate()
                .map(variances)
                .collect(),
            optimizer: Vec::new(),
            bank: Vec::new(),
            step: 0,
        }
    }

    /// An executor of the same network that ends in the layer gives the layer's features to the bit.
    #[test]
    fn layers_are_those_of_the_executor() {
        let norm = |layers| recipe::Head::Mlp {
            layers,
            hidden: 512,
            output: 64,
            batch_norm: true,
            bias: false,
            output_shift: true,
        };
        let plain =
            recipe::Head::Mlp { layers: 2, hidden: 512, output: 64, batch_norm: false, bias: true, output_shift: true };
        let linear = recipe::Head::Linear { output: 128, batch_norm: false, bias: true };
        let images = values_f32(3, 5 * 32 * 32 * 3, 1.0);
        for (head, widths) in
            [(norm(3), vec![512, 512, 64]), (plain, vec![512, 64]), (linear, vec![128]), (recipe::Head::None, vec![])]
        {
            let plan = plan(head);
            let state = state(&plan);
            let features = |layer: Layer| {
                let mut cut = plan.clone();
                cut.features = plan.layer(layer).expect("a layer of the head");
                let mut executor = executor(cut);
                executor.load(&state);
                executor.features(&images).expect("images fit")
            };
            let backbone = Features { values: features(Layer::Backbone), width: 512, labels: vec![0; 5] };
            let pool = Pool::new(2);
            let at_rest = Head { plan: &plan, state: &state };
            let numbered = (1..).zip(&widths).map(|(number, width)| (Layer::Head(number), *width));
            let last = widths.last().copied().unwrap_or(512);
            for (layer, width) in numbered.chain([(Layer::Projection, last), (Layer::Backbone, 512)]) {
                let found = at_rest.features(&backbone, layer, &pool).expect("a layer of the head");
                assert_eq!((found.width, found.len()), (width, 5), "{head:?} {layer:?}");
                assert_eq!(found.values, features(layer), "{head:?} {layer:?}");
                assert!(found.values.iter().any(|value| *value != 0.0));
            }
            let beyond = Layer::Head(widths.len() as u32 + 1);
            assert_eq!(at_rest.features(&backbone, beyond, &pool), None, "{head:?}");
            assert_eq!(at_rest.features(&backbone, Layer::Head(0), &pool), None, "{head:?}");
        }
    }

    /// A hidden layer ends in a ReLU, the last does not.
    #[test]
    fn hidden_layers_are_rectified() {
        let plan = plan(recipe::Head::Mlp {
            layers: 3,
            hidden: 512,
            output: 64,
            batch_norm: true,
            bias: false,
            output_shift: true,
        });
        let state = state(&plan);
        let backbone = Features { values: values_f32(4, 7 * 512, 1.0), width: 512, labels: vec![0; 7] };
        let lowest = |layer| {
            let features = Head { plan: &plan, state: &state }.features(&backbone, layer, &Pool::new(1));
            features.expect("a layer").values.into_iter().fold(f32::INFINITY, f32::min)
        };
        assert_eq!((lowest(Layer::Head(1)), lowest(Layer::Head(2))), (0.0, 0.0));
        assert!(lowest(Layer::Head(3)) < 0.0);
    }
}
