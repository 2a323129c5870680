//! Which convolutions a training and its evaluation have, known without any device: what can be timed before.

use std::collections::BTreeSet;

use crate::device::gpu::{self, Address, Convolution, Node};
use crate::executor::cuda::ensure_sound;
use crate::executor::cuda::memory::Memory;
use crate::executor::cuda::network::{Network, Pass, Placed};
use crate::executor::{ExecutorError, Setting};
use crate::experiment::recipe::Model;
use crate::model::plan::Plan;
use crate::model::registry;

/// Every convolution that an executor of this Plan and setting prepares.
///
/// # Errors
/// A Plan that contradicts itself, a batch that its pieces do not divide.
pub fn convolutions(plan: Plan, setting: &Setting) -> Result<BTreeSet<(Convolution, gpu::Pass)>, ExecutorError> {
    ensure_sound(&plan, setting)?;
    let network = Network::new(plan, setting);
    // Nothing is read or written there: sizes alone are asked for, and 0 would be no place.
    let (memory, _) = Memory::lay(&network, Address(1 << 20));
    let placed = Placed { network: &network, memory: &memory };
    let mut found = BTreeSet::new();
    for nodes in [placed.forward(Pass::Training), placed.backward(), placed.forward(Pass::Evaluation)] {
        collect(&nodes, &mut found);
    }
    Ok(found)
}

/// [`convolutions`] of one of the compiled models.
///
/// # Errors
/// As there, and a model that was not compiled.
pub fn convolutions_of_model(
    model: &Model,
    setting: &Setting,
) -> Result<BTreeSet<(Convolution, gpu::Pass)>, ExecutorError> {
    let plan = registry::plan(model).map_err(|error| ExecutorError::Device(error.to_string()))?;
    convolutions(plan, setting)
}

fn collect(nodes: &[Node], found: &mut BTreeSet<(Convolution, gpu::Pass)>) {
    for node in nodes {
        match node {
            Node::Convolution(call) => drop(found.insert((call.shape, call.pass))),
            Node::Side(nodes) => collect(nodes, found),
            Node::Launch(_) | Node::Product(_) | Node::Zero { .. } | Node::Copy { .. } | Node::Join => {}
        }
    }
}
