//! What a device asks for and the plain emulation does without: convolutions and products are prepared before they run,
//! and all that is recorded has run before, as libraries and driver load code at its first use, which a recording forbids.

use std::collections::BTreeSet;

use crate::device::cuda::column_major::{self, problem};
use crate::device::cuda::convolution_plans::ALIGNMENT_BYTES;
use crate::device::cuda::convolutions;
use crate::device::gpu::{Address, Convolution, GpuError, Node, Pass, Product};

/// Something that is loaded or chosen at its first use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Loaded {
    Kernel(&'static str),
    Product(column_major::Problem),
    Convolution(Convolution, Pass),
}

/// What was prepared and what has run so far.
#[derive(Debug, Default)]
pub struct Rules {
    prepared: BTreeSet<Loaded>,
    ran: BTreeSet<Loaded>,
}

fn refused(call: &'static str, reason: String) -> GpuError {
    GpuError::Call { call, reason }
}

fn loaded(node: &Node) -> Result<Option<Loaded>, GpuError> {
    Ok(match node {
        Node::Launch(launch) => Some(Loaded::Kernel(launch.kernel)),
        Node::Product(product) => Some(Loaded::Product(problem(product)?)),
        Node::Convolution(call) => Some(Loaded::Convolution(call.shape, call.pass)),
        Node::Zero { .. } | Node::Copy { .. } | Node::Side(_) | Node::Join => None,
    })
}

/// The nodes in order, those on the side too.
fn flat(nodes: &[Node]) -> Vec<&Node> {
    let mut all = Vec::with_capacity(nodes.len());
    for node in nodes {
        if let Node::Side(inner) = node {
            all.extend(flat(inner));
        } else {
            all.push(node);
        }
    }
    all
}

fn has_places(product: &Product) -> bool {
    [product.a, product.b, product.c].iter().all(|matrix| matrix.address != Address::NONE)
}

impl Rules {
    pub fn prepare(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        for node in flat(nodes) {
            self.prepared.extend(loaded(node)?);
        }
        Ok(())
    }

    /// To be asked before a node runs, which it then has.
    pub fn run(&mut self, node: &Node) -> Result<(), GpuError> {
        let Some(loaded) = loaded(node)? else { return Ok(()) };
        match node {
            Node::Product(product) if !self.prepared.contains(&loaded) || !has_places(product) => {
                let description = column_major::description(product);
                return Err(refused("product", format!("{description} was not prepared or has no place")));
            }
            Node::Convolution(call) => {
                let is_sound =
                    |place: Address| place != Address::NONE && place.0.is_multiple_of(ALIGNMENT_BYTES as u64);
                if !self.prepared.contains(&loaded) || ![call.x, call.weight, call.y].into_iter().all(is_sound) {
                    let description = convolutions::description(&call.shape, call.pass);
                    let reason = format!("{description} was not prepared or has a place that is no multiple of 16");
                    return Err(refused("convolution", reason));
                }
            }
            Node::Launch(_) | Node::Product(_) | Node::Zero { .. } | Node::Copy { .. } | Node::Side(_) | Node::Join => {
            }
        }
        self.ran.insert(loaded);
        Ok(())
    }

    /// To be asked before nodes are recorded.
    pub fn record(&self, nodes: &[Node]) -> Result<(), GpuError> {
        for node in flat(nodes) {
            if let Some(loaded) = loaded(node)?.filter(|loaded| !self.ran.contains(loaded)) {
                return Err(refused("record", format!("{loaded:?} never ran before it is recorded")));
            }
        }
        Ok(())
    }
}
