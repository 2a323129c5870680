//! What each operation does with values and gradients, decided once from the Plan: which gradients exist, which take over
//! another's place, and how long everything lives.

use std::ops::Range;

use crate::executor::layout::{Lifetime, place};
use crate::model::plan::{Activation, Op, Plan, Shape, ValueId};
use crate::ops::batch::Batch;
use crate::ops::conv2d::Convolution;
use crate::ops::conv2d::cpu::scratch_len;

/// How the gradient of an operation's input is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Nobody needs it.
    Skip,
    /// It takes over the place of the output's gradient.
    InPlace,
    Write,
    /// Another reader of the value delivered first.
    Accumulate,
}

/// Places and flows of one Plan for one number of images.
#[derive(Debug, Clone)]
pub struct Schedule {
    pub batches: Vec<Batch>,
    /// Place of every value; empty where it is never computed.
    pub values: Vec<Range<usize>>,
    /// Place of every gradient; empty where there is none.
    pub gradients: Vec<Range<usize>>,
    /// For every operation: whether it takes part in the backward pass, and the flow of each input.
    pub flows: Vec<Option<[Flow; 2]>>,
    pub arena_len: usize,
}

impl Schedule {
    /// Forward, loss and backward of `images` images in `views` views.
    pub fn training(plan: &Plan, images: usize, views: usize) -> Schedule {
        let batches = batches(plan, images, views);
        let mut values: Vec<Lifetime> = forward_lifetimes(plan, &batches, |_| true);
        let end = plan.ops.len() + 1;
        extend(&mut values, plan.projection, end);
        let mut gradients = Gradients::new(plan, &batches);
        let flows = gradients.walk(plan);
        for (index, op) in plan.ops.iter().enumerate().filter(|(index, _)| flows[*index].is_some()) {
            for value in read_by_backward(op) {
                extend(&mut values, value, backward_time(plan, index));
            }
        }
        let all: Vec<Lifetime> = values.iter().chain(&gradients.slots).copied().collect();
        let (places, arena_len) = place(&all);
        let (values, slots) = places.split_at(values.len());
        let gradients = gradients.slot_of.iter().map(|slot| slot.map_or(0..0, |slot| slots[slot].clone())).collect();
        Schedule { batches, values: values.to_vec(), gradients, flows, arena_len }
    }

    /// Forward alone, as far as the features need.
    pub fn evaluation(plan: &Plan, images: usize) -> Schedule {
        let needed = needed_for(plan, plan.features);
        let batches = batches(plan, images, 1);
        let mut lifetimes = forward_lifetimes(plan, &batches, |index| needed[index]);
        extend(&mut lifetimes, plan.features, plan.ops.len() + 1);
        let (values, arena_len) = place(&lifetimes);
        let flows = needed.iter().map(|needed| needed.then_some([Flow::Skip; 2])).collect();
        Schedule { batches, values, gradients: Vec::new(), flows, arena_len }
    }

    /// Uses less of every place: the first `images` of one view.
    ///
    /// # Panics
    /// When a place is too short.
    pub fn set_images(&mut self, images: usize) {
        for (batch, place) in self.batches.iter_mut().zip(&mut self.values).filter(|(_, place)| place.start < place.end)
        {
            assert!(images <= batch.images && batch.views == 1, "{images} of {batch:?}");
            batch.images = images;
            place.end = place.start + batch.len();
        }
    }

    pub fn batch(&self, value: ValueId) -> Batch {
        self.batches[value.0]
    }

    pub fn value(&self, value: ValueId) -> Range<usize> {
        self.values[value.0].clone()
    }

    pub fn gradient(&self, value: ValueId) -> Range<usize> {
        self.gradients[value.0].clone()
    }

    /// The most that a convolution needs to work in.
    pub fn longest_scratch(&self, plan: &Plan) -> usize {
        let needed = |op: &Op| match *op {
            Op::Conv2d { input, output, window, .. } => {
                let convolution = Convolution { input: self.batch(input), output: self.batch(output), window };
                scratch_len(&convolution)
            }
            Op::BatchNorm { .. }
            | Op::Activate { .. }
            | Op::Add { .. }
            | Op::Pool2d { .. }
            | Op::GlobalAveragePool { .. }
            | Op::Linear { .. } => 0,
        };
        plan.ops.iter().map(needed).max().unwrap_or(0)
    }
}

fn batches(plan: &Plan, images: usize, views: usize) -> Vec<Batch> {
    plan.values.iter().map(|shape: &Shape| Batch::new(*shape, images, views)).collect()
}

/// Which operations lead to `value`.
fn needed_for(plan: &Plan, value: ValueId) -> Vec<bool> {
    let mut wanted = vec![false; plan.values.len()];
    wanted[value.0] = true;
    let mut needed = vec![false; plan.ops.len()];
    for (index, op) in plan.ops.iter().enumerate().rev() {
        if wanted[op.output().0] {
            needed[index] = true;
            op.inputs().iter().for_each(|input| wanted[input.0] = true);
        }
    }
    needed
}

/// From definition to last reader. The input is there at time 0, operation i runs at time i + 1.
fn forward_lifetimes(plan: &Plan, batches: &[Batch], runs: impl Fn(usize) -> bool) -> Vec<Lifetime> {
    let mut lifetimes = vec![Lifetime { len: 0, first: 0, last: 0 }; plan.values.len()];
    lifetimes[plan.input.0].len = batches[plan.input.0].len();
    for (index, op) in plan.ops.iter().enumerate().filter(|(index, _)| runs(*index)) {
        let output = op.output().0;
        lifetimes[output] = Lifetime { len: batches[output].len(), first: index + 1, last: index + 1 };
        op.inputs().iter().for_each(|input| extend(&mut lifetimes, *input, index + 1));
    }
    lifetimes
}

fn extend(lifetimes: &mut [Lifetime], value: ValueId, time: usize) {
    lifetimes[value.0].last = lifetimes[value.0].last.max(time);
}

/// Operations run backward after the loss, which comes at time n + 1.
fn backward_time(plan: &Plan, index: usize) -> usize {
    2 * plan.ops.len() + 1 - index
}

/// Values of the forward pass that the operation's backward pass reads again.
pub fn read_by_backward(op: &Op) -> impl Iterator<Item = ValueId> + use<> {
    let read = match *op {
        Op::Conv2d { input, .. } | Op::Linear { input, .. } => [Some(input), None],
        Op::BatchNorm { input, residual, output, activation, .. } => match activation {
            Activation::Identity => [Some(input), None],
            // Without a residual the sign is recomputed from the input.
            Activation::Relu => [Some(input), residual.map(|_| output)],
            Activation::Silu => [Some(input), residual],
        },
        Op::Activate { input, output, activation } => match activation {
            Activation::Identity => [None, None],
            Activation::Relu => [Some(output), None],
            Activation::Silu => [Some(input), None],
        },
        Op::Add { .. } | Op::Pool2d { .. } | Op::GlobalAveragePool { .. } => [None, None],
    };
    read.into_iter().flatten()
}

/// Gives gradients their slots while walking backward.
struct Gradients<'a> {
    batches: &'a [Batch],
    /// Whether any parameter lies before the value.
    wanted: Vec<bool>,
    slot_of: Vec<Option<usize>>,
    slots: Vec<Lifetime>,
}

impl Gradients<'_> {
    fn new<'a>(plan: &Plan, batches: &'a [Batch]) -> Gradients<'a> {
        let mut wanted = vec![false; plan.values.len()];
        for op in &plan.ops {
            let trained = matches!(op, Op::Conv2d { .. } | Op::BatchNorm { .. } | Op::Linear { .. });
            wanted[op.output().0] = trained || op.inputs().iter().any(|input| wanted[input.0]);
        }
        let mut slot_of = vec![None; plan.values.len()];
        let loss_time = plan.ops.len() + 1;
        slot_of[plan.projection.0] = Some(0);
        let len = batches[plan.projection.0].len();
        Gradients { batches, wanted, slot_of, slots: vec![Lifetime { len, first: loss_time, last: loss_time }] }
    }

    fn walk(&mut self, plan: &Plan) -> Vec<Option<[Flow; 2]>> {
        let mut flows = vec![None; plan.ops.len()];
        for (index, op) in plan.ops.iter().enumerate().rev() {
            let Some(slot) = self.slot_of[op.output().0] else { continue };
            let time = backward_time(plan, index);
            self.slots[slot].last = time;
            flows[index] = Some(self.deliver(op, slot, time));
        }
        flows
    }

    /// A residual is served before the input: its gradient is the output's as it stands.
    fn deliver(&mut self, op: &Op, slot: usize, time: usize) -> [Flow; 2] {
        match *op {
            Op::Conv2d { input, .. }
            | Op::Linear { input, .. }
            | Op::Pool2d { input, .. }
            | Op::GlobalAveragePool { input, .. } => [self.flow(input, None, time), Flow::Skip],
            Op::Activate { input, .. } => [self.flow(input, Some(slot), time), Flow::Skip],
            Op::Add { left, right, .. } => {
                let first = self.flow(left, Some(slot), time);
                let free = (first != Flow::InPlace).then_some(slot);
                [first, self.flow(right, free, time)]
            }
            Op::BatchNorm { input, residual, .. } => {
                let second = residual.map_or(Flow::Skip, |residual| self.flow(residual, Some(slot), time));
                let free = (second != Flow::InPlace).then_some(slot);
                [self.flow(input, free, time), second]
            }
        }
    }

    fn flow(&mut self, value: ValueId, free: Option<usize>, time: usize) -> Flow {
        if !self.wanted[value.0] {
            return Flow::Skip;
        }
        if let Some(slot) = self.slot_of[value.0] {
            self.slots[slot].last = time;
            return Flow::Accumulate;
        }
        if free.is_some() {
            self.slot_of[value.0] = free;
            return Flow::InPlace;
        }
        self.slot_of[value.0] = Some(self.slots.len());
        self.slots.push(Lifetime { len: self.batches[value.0].len(), first: time, last: time });
        Flow::Write
    }
}
