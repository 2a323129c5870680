//! Where a GPU's step goes: every node of it timed alone, beside the least time that its arithmetic or its bytes take.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::bench::floors::{Peaks, of_node};
use crate::device::gpu::{Element, Gpu, GpuError, Node};

/// Times a node stands in its recording.
const REPEATS: usize = 20;
/// Replays of a recording, of which the fastest counts.
const ROUNDS: usize = 3;

/// All nodes of one kind and size.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Kernel {
    pub what: String,
    /// How many of them a step has.
    pub count: usize,
    /// Of all of them, microseconds.
    pub total_us: f64,
    /// Multiplications and additions of all of them; none where they are not what takes the time.
    pub flop: Option<f64>,
    /// Bytes that must be read and written at least, of all of them; none where it is not known.
    pub bytes: Option<f64>,
    /// The least time of all of them; none where neither is known.
    pub floor_us: Option<f64>,
    /// The floor over the time.
    pub share: Option<f64>,
}

/// A step taken apart.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Step {
    pub peaks: Peaks,
    /// Of all nodes in one recording, as a training has them.
    pub step_us: f64,
    /// The longest first.
    pub kernels: Vec<Kernel>,
}

/// Times a step, and each node of it by itself, again and again. `element`: how activations are stored; `parameters`: how many
/// the optimizer moves.
///
/// # Errors
/// The device's.
pub fn time(
    gpu: &mut dyn Gpu,
    nodes: &[Node],
    peaks: Peaks,
    (element, parameters): (Element, usize),
) -> Result<Step, GpuError> {
    let mut kernels: BTreeMap<String, Kernel> = BTreeMap::new();
    for node in flat(nodes) {
        let Some((what, work)) = of_node(node, element, parameters) else { continue };
        let us = microseconds(gpu, std::slice::from_ref(node), REPEATS)?;
        let blank = Kernel {
            what: what.clone(),
            count: 0,
            total_us: 0.0,
            flop: work.flop.map(|_| 0.0),
            bytes: work.bytes.map(|_| 0.0),
            floor_us: peaks.floor_us(&work).map(|_| 0.0),
            share: None,
        };
        let kernel = kernels.entry(what).or_insert(blank);
        kernel.count += 1;
        kernel.total_us += us;
        add(&mut kernel.flop, work.flop);
        add(&mut kernel.bytes, work.bytes);
        add(&mut kernel.floor_us, peaks.floor_us(&work));
        kernel.share = kernel.floor_us.map(|floor_us| floor_us / kernel.total_us);
    }
    let mut kernels: Vec<Kernel> = kernels.into_values().collect();
    kernels.sort_by(|a, b| b.total_us.total_cmp(&a.total_us));
    Ok(Step { peaks, step_us: microseconds(gpu, nodes, 1)?, kernels })
}

/// What is unknown of one is unknown of all.
fn add(sum: &mut Option<f64>, more: Option<f64>) {
    *sum = sum.zip(more).map(|(sum, more)| sum + more);
}

/// Of these nodes once, in a recording that holds them `repeats` times: what the host does for each is not in it.
pub(super) fn microseconds(gpu: &mut dyn Gpu, nodes: &[Node], repeats: usize) -> Result<f64, GpuError> {
    gpu.prepare(nodes)?;
    // What is loaded at its first use is there behind this.
    gpu.run(nodes)?;
    gpu.synchronize()?;
    let graph = gpu.record(&vec![nodes; repeats].concat())?;
    let mut replay = || {
        let began = Instant::now();
        gpu.replay(graph)?;
        gpu.synchronize()?;
        Ok(began.elapsed().as_secs_f64() * 1e6 / repeats as f64)
    };
    replay()?;
    (0..ROUNDS).try_fold(f64::INFINITY, |fastest, _| Ok(fastest.min(replay()?)))
}

/// The nodes in order, those on the side too.
fn flat(nodes: &[Node]) -> Vec<&Node> {
    let mut all = Vec::with_capacity(nodes.len());
    for node in nodes {
        match node {
            Node::Side(inner) => all.extend(flat(inner)),
            Node::Launch(_)
            | Node::Product(_)
            | Node::Convolution(_)
            | Node::Zero { .. }
            | Node::Copy { .. }
            | Node::Join => all.push(node),
        }
    }
    all
}
