//! A row-major product as the column-major one that cublasLt computes.
//!
//! A matrix that lies row after row is its transpose column after column. So c = a · b, with all three row-major, is
//! cᵀ = bᵀ · aᵀ column-major: the operands change places, m and n do, and nothing is moved.

use crate::device::gpu::{Address, Element, GpuError, Matrix, Product};

/// A place at a multiple of this is as good to the library as any.
const ALIGNMENT_BYTES: u64 = 16;

/// A matrix as it lies, column after column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operand {
    pub element: Element,
    pub rows: usize,
    pub columns: usize,
    /// Numbers from one column to the next.
    pub leading: usize,
    /// It enters the product transposed.
    pub transposed: bool,
    /// What the place is surely a multiple of.
    pub alignment_bytes: u32,
}

/// result (m × n) = first (m × k) · second (k × n), column-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Problem {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub first: Operand,
    pub second: Operand,
    pub result: Operand,
}

fn name(element: Element) -> &'static str {
    match element {
        Element::F32 => "f32",
        Element::Bf16 => "bf16",
    }
}

/// Sizes and elements in row-major words: `product 512x128x64 bf16 bf16 transposed -> f32 strides 64 64 128`, the sizes
/// being m, n and k, the strides those of a, b and c.
pub fn description(product: &Product) -> String {
    let Product { m, n, k, a, b, c, .. } = product;
    let transposed = |it: bool| if it { " transposed" } else { "" };
    format!(
        "product {m}x{n}x{k} {}{} {}{} -> {} strides {} {} {}",
        name(a.element),
        transposed(product.a_transposed),
        name(b.element),
        transposed(product.b_transposed),
        name(c.element),
        a.stride,
        b.stride,
        c.stride
    )
}

fn alignment_bytes(address: Address, element: Element) -> u32 {
    if address.0.is_multiple_of(ALIGNMENT_BYTES) { ALIGNMENT_BYTES as u32 } else { element.bytes() as u32 }
}

/// The column-major face of a row-major matrix of `rows` × `columns`; none when it cannot lie like that.
fn operand(matrix: &Matrix, rows: usize, columns: usize, transposed: bool) -> Option<Operand> {
    let sizes = [rows, columns, matrix.stride];
    let sound = sizes.iter().all(|size| (1..=i32::MAX as usize).contains(size))
        && matrix.stride >= columns
        && matrix.address.0.is_multiple_of(matrix.element.bytes() as u64);
    sound.then(|| Operand {
        element: matrix.element,
        rows: columns,
        columns: rows,
        leading: matrix.stride,
        transposed,
        alignment_bytes: alignment_bytes(matrix.address, matrix.element),
    })
}

/// # Errors
/// `NoPlan` when a size is 0 or above 2³¹, a stride is less than a row, a place is no multiple of its element, or the
/// library does not multiply such elements.
pub fn problem(product: &Product) -> Result<Problem, GpuError> {
    let refused = |reason: &str| GpuError::NoPlan(format!("{}: {reason}", description(product)));
    let Product { m, n, k, a, b, c, .. } = *product;
    let lies = |matrix: &Matrix, rows: usize, columns: usize, transposed: bool| {
        let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
        operand(matrix, rows, columns, transposed).ok_or_else(|| refused("a matrix cannot lie like that"))
    };
    if a.element != b.element || (a.element == Element::F32 && c.element == Element::Bf16) {
        return Err(refused("cublasLt has no product of these elements"));
    }
    Ok(Problem {
        m: n,
        n: m,
        k,
        first: lies(&b, k, n, product.b_transposed)?,
        second: lies(&a, m, k, product.a_transposed)?,
        result: lies(&c, m, n, false)?,
    })
}
