//! Where a GPU's step goes: every node of it timed alone.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::device::gpu::{ConvolutionCall, Gpu, GpuError, Node, Product};

/// Times a kernel is run at a stretch.
const REPEATS: usize = 20;

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
}

/// Runs each node of a step by itself, again and again, and sums up by kind; the longest first.
///
/// # Errors
/// The device's.
pub fn time(gpu: &mut dyn Gpu, nodes: &[Node]) -> Result<Vec<Kernel>, GpuError> {
    gpu.prepare(nodes)?;
    let mut kernels: BTreeMap<String, Kernel> = BTreeMap::new();
    for node in flat(nodes) {
        let Some((what, flop, bytes)) = describe(node) else { continue };
        let one = std::slice::from_ref(node);
        gpu.run(one)?;
        gpu.synchronize()?;
        let began = Instant::now();
        for _ in 0..REPEATS {
            gpu.run(one)?;
        }
        gpu.synchronize()?;
        let us = began.elapsed().as_secs_f64() * 1e6 / REPEATS as f64;
        let blank = Kernel { what: what.clone(), count: 0, total_us: 0.0, flop: None, bytes: None };
        let kernel = kernels.entry(what).or_insert(blank);
        kernel.count += 1;
        kernel.total_us += us;
        kernel.flop = flop.map(|flop| kernel.flop.unwrap_or(0.0) + flop);
        kernel.bytes = bytes.map(|bytes| kernel.bytes.unwrap_or(0.0) + bytes);
    }
    let mut sorted: Vec<Kernel> = kernels.into_values().collect();
    sorted.sort_by(|a, b| b.total_us.total_cmp(&a.total_us));
    Ok(sorted)
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

fn describe(node: &Node) -> Option<(String, Option<f64>, Option<f64>)> {
    match node {
        Node::Launch(launch) => Some((launch.kernel.to_owned(), None, None)),
        Node::Product(product) => Some(describe_product(product)),
        Node::Convolution(call) => Some(describe_convolution(call)),
        Node::Zero { bytes, .. } => Some(("zero".to_owned(), None, Some(*bytes as f64))),
        Node::Copy { bytes, .. } => Some(("copy".to_owned(), None, Some(2.0 * *bytes as f64))),
        Node::Side(_) | Node::Join => None,
    }
}

fn describe_product(product: &Product) -> (String, Option<f64>, Option<f64>) {
    let Product { m, n, k, a, c, .. } = *product;
    let flop = 2.0 * m as f64 * n as f64 * k as f64;
    let bytes = (m * k + k * n) as f64 * a.element.bytes() as f64 + (m * n * c.element.bytes()) as f64;
    (format!("product {m}x{n}x{k} {:?}", a.element), Some(flop), Some(bytes))
}

fn describe_convolution(call: &ConvolutionCall) -> (String, Option<f64>, Option<f64>) {
    let shape = call.shape;
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    let outputs = (shape.images * out_height * out_width * shape.outputs) as f64;
    let taps = (shape.kernel * shape.kernel * shape.inputs) as f64;
    let numbers =
        (shape.images * shape.height * shape.width * shape.inputs) as f64 + outputs + taps * shape.outputs as f64;
    let what = format!(
        "convolution {}x{} {}->{} {}x{} s{} {:?} {:?}",
        shape.height,
        shape.width,
        shape.inputs,
        shape.outputs,
        shape.kernel,
        shape.kernel,
        shape.stride,
        shape.element,
        call.pass
    );
    (what, Some(2.0 * outputs * taps), Some(numbers * shape.element.bytes() as f64))
}
