//! What a node of a GPU's step needs at least, and what the GPU can do at most: the least time of every node.
//!
//! Every operand is read once and every result written once; what a cache holds from the node before may be faster than that.
//! Kernels are told by their names and arguments, which `floors::tests` holds to the kernels.

use crate::bench::kernels::microseconds;
use crate::device::gpu::{Address, Argument, ConvolutionCall, Element, Gpu, GpuError, Launch, Matrix, Node, Product};

/// Bytes of an f32 and of an f64.
const F32: f64 = 4.0;
const F64: f64 = 8.0;
/// Copies and products in one recording of a peak.
const REPEATS: usize = 10;

/// Of one node; none where it is not what takes the time, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    pub flop: Option<f64>,
    pub bytes: Option<f64>,
    /// Of what the arithmetic is in.
    pub element: Option<Element>,
}

/// What a GPU does at most, measured on itself.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Peaks {
    /// Of a copy within the device's memory, bytes read and written.
    pub gb_per_s: f64,
    /// Of square products; a multiply-add is two.
    pub f32_gflop_per_s: f64,
    pub bf16_gflop_per_s: f64,
}

impl Peaks {
    /// Of a copy of so many bytes, larger than any cache, and of products with so many rows and columns.
    ///
    /// # Errors
    /// The device's.
    pub fn measure(gpu: &mut dyn Gpu, copied_bytes: usize, side: usize) -> Result<Peaks, GpuError> {
        let bytes = copied_bytes.max(side * side * 4);
        let places = [gpu.allocate(bytes)?, gpu.allocate(bytes)?, gpu.allocate(bytes)?];
        let [from, to, third] = places;
        let copy = [Node::Copy { from, to, bytes: copied_bytes }];
        let gb_per_s = 2e-3 * copied_bytes as f64 / microseconds(gpu, &copy, REPEATS)?;
        let mut gflop_per_s = |element| {
            let matrix = |address| Matrix { address, element, stride: side };
            let (a_transposed, b_transposed, accumulate) = (false, true, false);
            let (a, b, c) = (matrix(from), matrix(to), matrix(third));
            let product = Product { m: side, n: side, k: side, a, a_transposed, b, b_transposed, c, accumulate };
            let us = microseconds(gpu, &[Node::Product(product)], REPEATS)?;
            Ok::<f64, GpuError>(2e-3 * (side as f64).powi(3) / us)
        };
        let (f32_gflop_per_s, bf16_gflop_per_s) = (gflop_per_s(Element::F32)?, gflop_per_s(Element::Bf16)?);
        places.into_iter().try_for_each(|place| gpu.release(place))?;
        Ok(Peaks { gb_per_s, f32_gflop_per_s, bf16_gflop_per_s })
    }

    /// The longer of arithmetic and bytes.
    pub fn floor_us(&self, work: &Work) -> Option<f64> {
        let gflop_per_s = match work.element {
            Some(Element::Bf16) => self.bf16_gflop_per_s,
            Some(Element::F32) | None => self.f32_gflop_per_s,
        };
        let arithmetic = work.flop.map(|flop| 1e-3 * flop / gflop_per_s);
        let moved = work.bytes.map(|bytes| 1e-3 * bytes / self.gb_per_s);
        arithmetic.into_iter().chain(moved).reduce(f64::max)
    }
}

/// A name for all nodes like this one and what it needs; none for what only orders others.
pub fn of_node(node: &Node, element: Element, parameters: usize) -> Option<(String, Work)> {
    let moved = |bytes: f64| Work { bytes: Some(bytes), ..Work::default() };
    match node {
        Node::Launch(launch) => Some((launch.kernel.to_owned(), of_launch(launch, element, parameters))),
        Node::Product(product) => Some(of_product(product)),
        Node::Convolution(call) => Some(of_convolution(call)),
        Node::Zero { bytes, .. } => Some(("zero".to_owned(), moved(*bytes as f64))),
        Node::Copy { bytes, .. } => Some(("copy".to_owned(), moved(2.0 * *bytes as f64))),
        Node::Side(_) | Node::Join => None,
    }
}

fn of_product(product: &Product) -> (String, Work) {
    let Product { m, n, k, a, c, .. } = *product;
    let flop = 2.0 * m as f64 * n as f64 * k as f64;
    let bytes = (m * k + k * n) as f64 * a.element.bytes() as f64 + (m * n * c.element.bytes()) as f64;
    let work = Work { flop: Some(flop), bytes: Some(bytes), element: Some(a.element) };
    (format!("product {m}x{n}x{k} {:?}", a.element), work)
}

fn of_convolution(call: &ConvolutionCall) -> (String, Work) {
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
    let bytes = numbers * shape.element.bytes() as f64;
    (what, Work { flop: Some(2.0 * outputs * taps), bytes: Some(bytes), element: Some(shape.element) })
}

/// The arguments of a launch by their places.
struct Arguments<'a>(&'a [Argument]);

impl Arguments<'_> {
    fn size(&self, at: usize) -> f64 {
        match self.0[at] {
            Argument::I32(value) => f64::from(value),
            Argument::U32(value) => f64::from(value),
            Argument::U64(value) => value as f64,
            Argument::F32(value) => f64::from(value),
            Argument::F64(value) => value,
            Argument::Address(_) => 0.0,
        }
    }

    fn product(&self, places: &[usize]) -> f64 {
        places.iter().map(|at| self.size(*at)).product()
    }

    /// 1 where there is a place, 0 where there is none.
    fn given(&self, at: usize) -> f64 {
        f64::from(u8::from(matches!(self.0[at], Argument::Address(address) if address != Address::NONE)))
    }
}

/// The kernels' own arithmetic is next to nothing but in contrastive losses, which multiply in f32.
fn of_launch(launch: &Launch, element: Element, parameters: usize) -> Work {
    let arguments = Arguments(&launch.arguments);
    let multiplied = |flop: f64| Work { flop: Some(flop), bytes: None, element: Some(Element::F32) };
    if let Some(flop) = arithmetic(launch, &arguments) {
        return multiplied(flop);
    }
    Work { bytes: moved(launch, &arguments, element.bytes() as f64, parameters as f64), ..Work::default() }
}

/// Rows of a panel, eight a thread.
fn panel_rows(launch: &Launch) -> f64 {
    f64::from(launch.grid[1] * launch.block[1] * 8)
}

/// Of the products that a contrastive loss makes by itself.
fn arithmetic(launch: &Launch, arguments: &Arguments) -> Option<f64> {
    let multiplied = match launch.kernel {
        "nt_xent_sums" | "triples_margins" | "triples_choose" => arguments.product(&[4, 4, 5]),
        "nt_xent_neighbours" => arguments.product(&[5, 5, 6]),
        "nt_xent_weights" => panel_rows(launch) * arguments.product(&[5, 6]),
        "nt_xent_products" => panel_rows(launch) * arguments.product(&[4, 3]),
        "triples_softplus" => arguments.product(&[2, 2, 3]),
        "triples_weights" => panel_rows(launch) * arguments.product(&[4, 5]),
        "bank_sums" => arguments.product(&[6, 4, 5]),
        "bank_weights" => panel_rows(launch) * arguments.product(&[6, 7]),
        _ => return None,
    };
    Some(2.0 * multiplied)
}

/// Bytes read and written; none for a kernel that is too small to have a floor.
fn moved(launch: &Launch, arguments: &Arguments, stored: f64, parameters: f64) -> Option<f64> {
    let groups = f64::from(launch.grid[2]);
    let maps = |rows: usize| groups * arguments.product(&[rows, rows + 1]) * stored;
    let (inputs, outputs) = (
        |at: usize| arguments.product(&[at, at + 1, at + 2, at + 3]),
        |at: usize| arguments.product(&[at, at + 3, at + 4, at + 5]),
    );
    Some(match launch.kernel {
        "batch_norm_moments" => maps(2),
        "batch_norm_apply" => maps(10) * (2.0 + arguments.given(2)),
        "batch_norm_gradient_sums" => {
            // Delivered nowhere, written or added.
            maps(9) * (2.0 + arguments.given(3) + arguments.size(13))
        }
        "batch_norm_gradient_apply" => maps(11) * (3.0 + arguments.given(2) + arguments.size(16)),
        "pool2d_max_forward" => inputs(3) * stored + outputs(3) * (stored + 1.0),
        "pool2d_average_forward" => (inputs(2) + outputs(2)) * stored,
        "pool2d_max_backward" => inputs(3) * stored * (1.0 + arguments.size(12)) + outputs(3) * (stored + 1.0),
        "pool2d_average_backward" => (inputs(2) * (1.0 + arguments.size(11)) + outputs(2)) * stored,
        "global_average_pool_forward" => arguments.product(&[2, 4]) * (arguments.size(3) + 1.0) * stored,
        "global_average_pool_backward" => {
            arguments.product(&[2, 4]) * (arguments.size(3) * (1.0 + arguments.size(5)) + 1.0) * stored
        }
        "activation_forward" => 2.0 * arguments.size(2) * stored,
        "activation_backward" => (3.0 + arguments.size(5)) * arguments.size(3) * stored,
        "activation_add" => 3.0 * arguments.size(3) * stored,
        "conv2d_add" => 3.0 * 8.0 * arguments.size(2) * stored,
        "linear_bias" => f64::from(launch.grid[0]) * arguments.size(2) * stored,
        "linear_bias_gradient" => arguments.product(&[2, 3]) * stored,
        "precision_widen" | "precision_narrow" => arguments.size(2) * (F32 + stored),
        "precision_add" => 3.0 * arguments.size(2) * F32,
        // Nearly all parameters are weights.
        "compute_weights_spread" | "compute_weights_gather" => parameters * (F32 + stored),
        "optimizer_descend" => parameters * F32 * (3.0 + 2.0 * arguments.given(2)),
        "optimizer_adapt" => parameters * F32 * 7.0,
        "optimizer_lars_squares" => parameters * F32 * 2.0,
        _ => return moved_by_a_loss(launch, arguments),
    })
}

fn moved_by_a_loss(launch: &Launch, arguments: &Arguments) -> Option<f64> {
    // Partial sums of every split and the unit vectors in, gradients out: from the width's place on.
    let gradient = |width: usize| {
        let [width, stride, rows, splits] = [width, width + 1, width + 2, width + 4].map(|at| arguments.size(at));
        rows * (splits * stride + stride + width) * F32
    };
    let kept_by_an_anchor = 4.0 * F32 + F64;
    Some(match launch.kernel {
        "nt_xent_normalize" => arguments.size(3) * (arguments.size(4) + arguments.size(5)) * F32,
        "nt_xent_squares" => arguments.product(&[3, 4]) * F32,
        "nt_xent_anchors" => arguments.size(7) * (2.0 * arguments.size(9) * F32 + kept_by_an_anchor),
        "nt_xent_gradient" => gradient(5),
        "decoupled_anchors" => arguments.size(8) * (2.0 * arguments.size(10) * F32 + kept_by_an_anchor),
        "triples_positives" => arguments.product(&[2, 3]) * F32,
        "triples_anchors" => arguments.size(5) * (arguments.size(7) * (F64 + F32) + 2.0 * F32 + F64),
        "triples_chosen_anchors" => arguments.size(7) * (2.0 * arguments.size(9) * F32 + kept_by_an_anchor),
        "triples_chosen_weights" => panel_rows(launch) * arguments.size(5) * F32,
        "bank_anchors" => arguments.product(&[7, 8]) * 2.0 * F32,
        "bank_gradient" => gradient(6),
        "bank_enqueue" => 2.0 * arguments.product(&[3, 5]) * F32,
        "cross_entropy_views" => 2.0 * arguments.product(&[4, 6]) * F32,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
