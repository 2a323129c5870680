//! The operations of a Plan in order, in training and in evaluation.

use crate::executor::cpu::memory::parts;
use crate::executor::cpu::{CpuExecutor, Pass};
use crate::model::plan::{Op, PoolKind};
use crate::ops::batch_norm::cpu::Affine;
use crate::ops::conv2d::Convolution;
use crate::ops::linear::Layer;
use crate::ops::pool2d::Pooling;
use crate::ops::{activation, batch_norm, conv2d, global_average_pool, linear, pool2d};

impl CpuExecutor {
    /// Runs every operation that takes part.
    pub(super) fn forward(&mut self, pass: Pass) {
        for index in 0..self.plan.ops.len() {
            if pass == Pass::Evaluation && self.evaluation.flows[index].is_none() {
                continue;
            }
            let started = std::time::Instant::now();
            self.forward_op(index, pass);
            self.timings[index].forward += started.elapsed();
        }
    }

    fn forward_op(&mut self, index: usize, pass: Pass) {
        let schedule = match pass {
            Pass::Training | Pass::Again => &self.training,
            Pass::Evaluation => &self.evaluation,
        };
        let op = self.plan.ops[index].clone();
        let output = op.output();
        match op {
            Op::Conv2d { .. } => self.forward_convolution(index, pass),
            Op::BatchNorm { .. } => self.forward_normalization(index, pass),
            Op::Activate { input, activation, .. } => {
                let [x, y] = parts(&mut self.arena, [schedule.value(input), schedule.value(output)]);
                activation::cpu::forward(&schedule.batch(output), activation, x, y);
            }
            Op::Add { left, right, .. } => {
                let places = [schedule.value(left), schedule.value(right), schedule.value(output)];
                let [left, right, y] = parts(&mut self.arena, places);
                activation::cpu::add(&schedule.batch(output), left, right, y);
            }
            Op::Pool2d { input, window, kind, .. } => {
                let [x, y] = parts(&mut self.arena, [schedule.value(input), schedule.value(output)]);
                let pooling = Pooling { input: schedule.batch(input), output: schedule.batch(output), window };
                match kind {
                    PoolKind::Max => pool2d::cpu::max_forward(&pooling, x, y, &mut self.winners[index][..y.len()]),
                    PoolKind::Average => pool2d::cpu::average_forward(&pooling, x, y),
                }
            }
            Op::GlobalAveragePool { input, .. } => {
                let [x, y] = parts(&mut self.arena, [schedule.value(input), schedule.value(output)]);
                global_average_pool::cpu::forward(&schedule.batch(input), x, y);
            }
            Op::Linear { input, weight, bias, .. } => {
                let [x, y] = parts(&mut self.arena, [schedule.value(input), schedule.value(output)]);
                let (inputs, outputs) = (schedule.batch(input).channels, schedule.batch(output).channels);
                let layer = Layer { images: schedule.batch(output).images, inputs, outputs };
                let weight = &self.parameters[self.plan.parameters[weight.0].range()];
                let bias = bias.map(|bias| &self.parameters[self.plan.parameters[bias.0].range()]);
                linear::cpu::forward(&layer, x, weight, bias, y);
            }
        }
    }

    /// Leaves the sums that the batch norm behind it needs.
    fn forward_convolution(&mut self, index: usize, pass: Pass) {
        let Op::Conv2d { input, output, weight, window } = self.plan.ops[index] else { return };
        let weight = &self.parameters[self.plan.parameters[weight.0].range()];
        match pass {
            Pass::Training | Pass::Again => {
                let schedule = &self.training;
                let [x, y] = parts(&mut self.arena, [schedule.value(input), schedule.value(output)]);
                let shapes = Convolution { input: schedule.batch(input), output: schedule.batch(output), window };
                match self.summed_for[index].and_then(|norm| self.normalizations[norm].as_mut()) {
                    Some(norm) => {
                        let sums = batch_norm::cpu::sum_block;
                        conv2d::cpu::forward(&shapes, x, weight, &mut self.scratch, y, &mut norm.partials, sums);
                    }
                    None => {
                        conv2d::cpu::forward(
                            &shapes,
                            x,
                            weight,
                            &mut self.scratch,
                            y,
                            &mut vec![(); shapes.output.n_blocks()],
                            |_, _| {},
                        );
                    }
                }
            }
            Pass::Evaluation => {
                let schedule = &self.evaluation;
                let [x, y] = parts(&mut self.arena, [schedule.value(input), schedule.value(output)]);
                let shapes = Convolution { input: schedule.batch(input), output: schedule.batch(output), window };
                conv2d::cpu::forward(
                    &shapes,
                    x,
                    weight,
                    &mut self.scratch,
                    y,
                    &mut vec![(); shapes.output.n_blocks()],
                    |_, _| {},
                );
            }
        }
    }

    fn forward_normalization(&mut self, index: usize, pass: Pass) {
        let Op::BatchNorm { input, residual, output, scale, shift, running_mean, running_var, activation } =
            self.plan.ops[index]
        else {
            return;
        };
        let affine = Affine {
            scale: &self.parameters[self.plan.parameters[scale.0].range()],
            shift: &self.parameters[self.plan.parameters[shift.0].range()],
        };
        let Some(norm) = self.normalizations[index].as_mut() else { return };
        let running = [running_mean, running_var].map(|id| {
            let buffer = &self.plan.buffers[id.0];
            buffer.offset..buffer.offset + buffer.len
        });
        let schedule = match pass {
            Pass::Training | Pass::Again => &self.training,
            Pass::Evaluation => &self.evaluation,
        };
        let residual_place = residual.map_or(0..0, |residual| schedule.value(residual));
        let [x, r, y] = parts(&mut self.arena, [schedule.value(input), residual_place, schedule.value(output)]);
        let residual = residual.map(|_| &*r);
        match pass {
            Pass::Training | Pass::Again => {
                if !self.summed_for.contains(&Some(index)) {
                    batch_norm::cpu::sum(norm, x);
                }
                let [mean, var] = parts(&mut self.buffers, running);
                norm.finish_statistics((pass == Pass::Training).then_some([mean, var]));
                batch_norm::cpu::forward(norm, affine, activation, x, residual, y);
            }
            Pass::Evaluation => {
                let [mean, var] = running.map(|range| &self.buffers[range]);
                self.statistics.set_running(mean, var);
                let batch = schedule.batch(output);
                batch_norm::cpu::evaluate(&batch, affine, &self.statistics, activation, (x, residual), y);
            }
        }
    }
}
