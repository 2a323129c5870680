//! The operations of a Plan in reverse.

use std::time::Instant;

use crate::executor::cpu::CpuExecutor;
use crate::executor::cpu::memory::parts;
use crate::executor::schedule::{Flow, read_by_backward};
use crate::model::plan::{Activation, Op, ParameterKind, PoolKind, ValueId};
use crate::ops::batch_norm::cpu::{Affine, Derivative};
use crate::ops::batch_norm::input_gradient::{self, InputGradient};
use crate::ops::conv2d::Convolution;
use crate::ops::linear::Layer;
use crate::ops::pool2d::Pooling;
use crate::ops::{activation, batch_norm, conv2d, global_average_pool, linear, pool2d};

impl CpuExecutor {
    /// Fills the gradients from that of the projection.
    pub(super) fn backward(&mut self) {
        for index in (0..self.plan.ops.len()).rev() {
            if let Some(flows) = self.training.flows[index] {
                self.backward_op(index, flows);
            }
        }
    }

    fn backward_op(&mut self, index: usize, flows: [Flow; 2]) {
        let started = Instant::now();
        match self.plan.ops[index].clone() {
            Op::Conv2d { .. } => self.backward_convolution(index, flows[0]),
            Op::BatchNorm { .. } => self.backward_normalization(index, flows),
            Op::Activate { .. } => self.backward_activation(index, flows[0]),
            Op::Add { left, right, output } => {
                self.pass_on(output, left, flows[0]);
                self.pass_on(output, right, flows[1]);
            }
            Op::Pool2d { .. } => self.backward_pooling(index, flows[0]),
            Op::GlobalAveragePool { input, output } => {
                let schedule = &self.training;
                let [dy, dx] = parts(&mut self.arena, [schedule.gradient(output), schedule.gradient(input)]);
                if flows[0] != Flow::Skip {
                    let accumulate = flows[0] == Flow::Accumulate;
                    global_average_pool::cpu::backward(&schedule.batch(input), dy, dx, accumulate);
                }
            }
            Op::Linear { .. } => self.backward_linear(index, flows[0]),
        }
        self.timings[index].backward += started.elapsed();
    }

    fn backward_convolution(&mut self, index: usize, flow: Flow) {
        let Op::Conv2d { input, output, weight, window } = self.plan.ops[index] else { return };
        let schedule = &self.training;
        let range = self.plan.parameters[weight.0].range();
        let shapes = Convolution { input: schedule.batch(input), output: schedule.batch(output), window };
        let started = Instant::now();
        let [x, dy] = parts(&mut self.arena, [schedule.value(input), schedule.gradient(output)]);
        let gradient = &mut self.gradients[range.clone()];
        conv2d::weight_gradient::backward_weight(&shapes, x, dy, &mut self.scratch, gradient);
        self.timings[index].backward_weight += started.elapsed();
        if flow == Flow::Skip {
            return;
        }
        let [dy, dx] = parts(&mut self.arena, [schedule.gradient(output), schedule.gradient(input)]);
        let weight = &self.parameters[range];
        conv2d::cpu::backward_input(&shapes, dy, weight, &mut self.scratch, dx, flow == Flow::Accumulate);
    }

    fn backward_normalization(&mut self, index: usize, flows: [Flow; 2]) {
        let Op::BatchNorm { input, residual, output, scale, shift, activation, .. } = self.plan.ops[index] else {
            return;
        };
        let Some(norm) = self.normalizations[index].as_mut() else { return };
        let schedule = &self.training;
        let holds_shift = self.plan.parameters[shift.0].kind == ParameterKind::HeldNormShift;
        let [scale, shift] = [scale, shift].map(|parameter| self.plan.parameters[parameter.0].range());
        let affine = Affine { scale: &self.parameters[scale.clone()], shift: &self.parameters[shift.clone()] };
        // Read again only where the schedule keeps them alive.
        let keeps = |value| read_by_backward(&self.plan.ops[index]).any(|read| read == value);
        let kept = |value| if keeps(value) { schedule.value(value) } else { 0..0 };
        let places = [
            schedule.value(input),
            kept(output),
            residual.map_or(0..0, kept),
            schedule.gradient(output),
            residual.filter(|_| flows[1] != Flow::InPlace).map_or(0..0, |residual| schedule.gradient(residual)),
            if flows[0] == Flow::InPlace { 0..0 } else { schedule.gradient(input) },
        ];
        let [x, y, r, dy, dr, dx] = parts(&mut self.arena, places);
        let derivative = match (activation, residual) {
            (Activation::Identity, _) => Derivative::Identity,
            (Activation::Relu, None) => Derivative::ReluOfInput,
            (Activation::Relu, Some(_)) => Derivative::ReluOfOutput { y },
            (Activation::Silu, residual) => Derivative::Silu { residual: residual.map(|_| &*r) },
        };
        batch_norm::cpu::backward_sums(norm, affine, x, derivative, dy);
        let [d_scale, d_shift] = parts(&mut self.gradients, [scale.clone(), shift.clone()]);
        norm.finish_gradients(d_scale, d_shift);
        if holds_shift {
            d_shift.fill(0.0);
        }
        match flows[1] {
            Flow::Skip | Flow::InPlace => {}
            Flow::Write => activation::cpu::forward(&norm.batch, Activation::Identity, dy, dr),
            Flow::Accumulate => activation::cpu::accumulate(&norm.batch, dy, dr),
        }
        let target = match flows[0] {
            Flow::Skip => return,
            Flow::InPlace => InputGradient::InPlace,
            Flow::Write => InputGradient::Write(dx),
            Flow::Accumulate => InputGradient::Accumulate(dx),
        };
        input_gradient::backward_input(norm, affine, x, derivative, dy, target);
    }

    fn backward_activation(&mut self, index: usize, flow: Flow) {
        let Op::Activate { input, output, activation } = self.plan.ops[index] else { return };
        let schedule = &self.training;
        let keeps = |value| read_by_backward(&self.plan.ops[index]).any(|read| read == value);
        let kept = |value| if keeps(value) { schedule.value(value) } else { 0..0 };
        let [x, y, dy] = parts(&mut self.arena, [kept(input), kept(output), schedule.gradient(output)]);
        activation::cpu::backward(&schedule.batch(output), activation, x, y, dy);
        self.pass_on(output, input, flow);
    }

    fn backward_pooling(&mut self, index: usize, flow: Flow) {
        let Op::Pool2d { input, output, window, kind } = self.plan.ops[index] else { return };
        if flow == Flow::Skip {
            return;
        }
        let schedule = &self.training;
        let pooling = Pooling { input: schedule.batch(input), output: schedule.batch(output), window };
        let [dy, dx] = parts(&mut self.arena, [schedule.gradient(output), schedule.gradient(input)]);
        let accumulate = flow == Flow::Accumulate;
        match kind {
            PoolKind::Max => pool2d::cpu::max_backward(&pooling, dy, &self.winners[index], dx, accumulate),
            PoolKind::Average => pool2d::cpu::average_backward(&pooling, dy, dx, accumulate),
        }
    }

    fn backward_linear(&mut self, index: usize, flow: Flow) {
        let Op::Linear { input, output, weight, bias } = self.plan.ops[index] else { return };
        let schedule = &self.training;
        let (inputs, outputs) = (schedule.batch(input).channels, schedule.batch(output).channels);
        let layer = Layer { images: schedule.batch(output).images, inputs, outputs };
        let weight = self.plan.parameters[weight.0].range();
        let started = Instant::now();
        let [x, dy] = parts(&mut self.arena, [schedule.value(input), schedule.gradient(output)]);
        linear::cpu::backward_weight(&layer, x, dy, &mut self.gradients[weight.clone()]);
        if let Some(bias) = bias {
            linear::cpu::backward_bias(&layer, dy, &mut self.gradients[self.plan.parameters[bias.0].range()]);
        }
        self.timings[index].backward_weight += started.elapsed();
        if flow != Flow::Skip {
            let [dy, dx] = parts(&mut self.arena, [schedule.gradient(output), schedule.gradient(input)]);
            linear::cpu::backward_input(&layer, dy, &self.parameters[weight], dx, flow == Flow::Accumulate);
        }
    }

    /// The gradient of `from` is that of `to`, or a part of it.
    fn pass_on(&mut self, from: ValueId, to: ValueId, flow: Flow) {
        let schedule = &self.training;
        match flow {
            Flow::Skip | Flow::InPlace => {}
            Flow::Write => {
                let [dy, dx] = parts(&mut self.arena, [schedule.gradient(from), schedule.gradient(to)]);
                activation::cpu::forward(&schedule.batch(from), Activation::Identity, dy, dx);
            }
            Flow::Accumulate => {
                let [dy, dx] = parts(&mut self.arena, [schedule.gradient(from), schedule.gradient(to)]);
                activation::cpu::accumulate(&schedule.batch(from), dy, dx);
            }
        }
    }
}
