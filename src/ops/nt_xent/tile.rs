//! The matrix product of a tile, with bits that are the same on every machine.
//!
//! `gemm` sums a product of inner length K ≤ 512 as one chain of fused multiply-adds whatever the instruction set,
//! but splits longer ones by the machine's cache and takes other paths for vectors and small products of rows by rows.
//! So longer products are cut here, the pieces added in order, and those others summed by a plain chain.

#![allow(unsafe_code)]

/// The longest inner length given to `gemm` in one call.
const INNER_MAX: usize = 512;
/// Up to so many results of rows by rows, `gemm` sums along the inner axis in as many lanes as the machine has.
const HORIZONTAL_MAX: usize = 256;

/// A matrix inside a slice: rows × columns, and how far apart neighbours of a column and of a row lie.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Row after row.
    ///
    /// # Panics
    /// When `values` is not rows × columns long.
    pub fn new(values: &'a [f32], rows: usize, columns: usize) -> Matrix<'a> {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} × {columns}");
        Matrix { values, rows, columns, row_stride: columns, column_stride: 1 }
    }

    pub fn transposed(self) -> Matrix<'a> {
        Matrix {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    fn at(&self, row: usize, column: usize) -> f32 {
        self.values[row * self.row_stride + column * self.column_stride]
    }
}

/// `output` = left · right, row after row.
///
/// # Panics
/// When the shapes do not fit.
pub fn product(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32]) {
    output.fill(0.0);
    add_product(left, right, output);
}

/// `output` += left · right, row after row.
///
/// # Panics
/// When the shapes do not fit.
pub fn add_product(left: Matrix<'_>, right: Matrix<'_>, output: &mut [f32]) {
    assert_eq!(left.columns, right.rows, "the inner lengths of a product");
    assert_eq!(output.len(), left.rows * right.columns, "the output of a product");
    for start in (0..left.columns).step_by(INNER_MAX) {
        let length = INNER_MAX.min(left.columns - start);
        let is_small = left.rows * right.columns <= HORIZONTAL_MAX && left.column_stride == 1 && right.row_stride == 1;
        if left.rows == 1 || right.columns == 1 || length <= 2 || is_small {
            add_chain(left, right, start, length, output);
        } else {
            add_gemm(left, right, start, length, output);
        }
    }
}

/// One chain of fused multiply-adds for every number of the output.
fn add_chain(left: Matrix<'_>, right: Matrix<'_>, start: usize, length: usize, output: &mut [f32]) {
    for (row, sums) in output.chunks_exact_mut(right.columns).enumerate() {
        for (column, sum) in sums.iter_mut().enumerate() {
            let chain = |total: f32, inner| left.at(row, inner).mul_add(right.at(inner, column), total);
            *sum += (start..start + length).fold(0.0, chain);
        }
    }
}

fn add_gemm(left: Matrix<'_>, right: Matrix<'_>, start: usize, length: usize, output: &mut [f32]) {
    let left_from = &left.values[start * left.column_stride..];
    let right_from = &right.values[start * right.row_stride..];
    let last = |matrix: Matrix<'_>, rows: usize, columns: usize| {
        (rows - 1) * matrix.row_stride + (columns - 1) * matrix.column_stride
    };
    if output.is_empty() {
        return;
    }
    assert!(last(left, left.rows, length) < left_from.len() && last(right, length, right.columns) < right_from.len());
    // SAFETY: `output` is rows × columns long, row after row, and borrowed mutably, so nothing else reads it meanwhile.
    // The largest index read of either operand was just checked to lie inside its slice; all strides are positive and
    // far below isize::MAX, since a slice's length is.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            length,
            output.as_mut_ptr(),
            1,
            right.columns as isize,
            true,
            left_from.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right_from.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose, Stream};

    fn draws(seed: u64, n: usize) -> Vec<f32> {
        let mut stream = Stream::new(seed, Address::of(Purpose::View));
        (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
    }

    /// Every product is the chain of fused multiply-adds over pieces of 512, bit for bit, in all three layouts in use.
    #[test]
    fn products_are_chains_of_fused_multiply_adds() {
        let check = |rows: usize, columns: usize, inner: usize| {
            let (left, right) = (draws(1, rows * inner), draws(2, inner * columns));
            let layouts = [
                (Matrix::new(&left, rows, inner), Matrix::new(&right, inner, columns)),
                (Matrix::new(&left, rows, inner), Matrix::new(&right, columns, inner).transposed()),
                (Matrix::new(&left, inner, rows).transposed(), Matrix::new(&right, inner, columns)),
            ];
            for (a, b) in layouts {
                let mut expected = draws(3, rows * columns);
                let mut found = expected.clone();
                for start in (0..inner).step_by(INNER_MAX) {
                    add_chain(a, b, start, INNER_MAX.min(inner - start), &mut expected);
                }
                add_product(a, b, &mut found);
                let differing = expected.iter().zip(&found).filter(|(x, y)| x.to_bits() != y.to_bits()).count();
                assert_eq!(differing, 0, "{rows} × {columns} × {inner}");
            }
        };
        for inner in [1, 2, 3, 7, 64, 128, 512, 513, 1030] {
            for (rows, columns) in [(1, 5), (2, 2), (5, 1), (3, 17), (16, 10), (64, 64), (64, 10), (65, 100)] {
                check(rows, columns, inner);
            }
        }
        check(64, 256, 128);
        check(130, 512, 512);
    }
}
