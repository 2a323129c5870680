//! Matrix products on strided slices: the one place that calls the `gemm` crate.
//!
//! For an inner dimension of at most 512 `gemm` adds each element's products in ascending order with fused
//! multiply-adds, whatever the instruction set, cache sizes and row split. Beyond that its blocking follows the
//! machine's caches, and for single rows or columns, a dimension of 1 or 2, and small products of two matrices contiguous
//! along it the order is another. So longer products are cut here at 512 and the pieces added in order, and those
//! small ones are summed here: each element is the same chain of operations on every machine and however rows are cut.
#![allow(unsafe_code)]

use pulp::{Simd, with_simd};

use crate::ops::registers::registers;

/// Longest inner dimension of one call.
pub const DEPTH: usize = 512;

/// A read-only matrix: element (i, j) is `data[i · row_stride + j · column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows `row_stride` apart, columns adjacent.
    ///
    /// # Panics
    /// When an element would lie outside `data`.
    pub fn new(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Matrix<'a> {
        assert_inside(data.len(), rows, columns, row_stride);
        Matrix { data, rows, columns, row_stride, column_stride: 1 }
    }

    /// Row after row without gaps.
    ///
    /// # Panics
    /// When `data` is not rows × columns long.
    pub fn dense(data: &'a [f32], rows: usize, columns: usize) -> Matrix<'a> {
        assert_eq!(data.len(), rows * columns, "a matrix of {rows} × {columns}");
        Matrix { data, rows, columns, row_stride: columns, column_stride: 1 }
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
}

/// A matrix to write: rows `row_stride` apart, columns adjacent, so that no two elements share a place.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// # Panics
    /// When an element would lie outside `data` or rows would overlap.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> MatrixMut<'a> {
        assert_inside(data.len(), rows, columns, row_stride);
        assert!(row_stride >= columns || rows <= 1, "rows of {columns} overlap at a stride of {row_stride}");
        MatrixMut { data, rows, columns, row_stride }
    }
}

fn assert_inside(len: usize, rows: usize, columns: usize, row_stride: usize) {
    if rows == 0 || columns == 0 {
        return;
    }
    let last = (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(columns - 1));
    assert!(last.is_some_and(|last| last < len), "{rows}×{columns} at a stride of {row_stride} leaves {len} numbers");
    assert!(len <= isize::MAX as usize / size_of::<f32>());
}

/// `out` = left · right, row after row.
///
/// # Panics
/// When the shapes do not fit.
pub fn product(left: Matrix, right: Matrix, out: &mut [f32]) {
    multiply(&mut MatrixMut::new(out, left.rows, right.columns, right.columns), left, right, false);
}

/// `out` += left · right, row after row.
///
/// # Panics
/// When the shapes do not fit.
pub fn add_product(left: Matrix, right: Matrix, out: &mut [f32]) {
    multiply(&mut MatrixMut::new(out, left.rows, right.columns, right.columns), left, right, true);
}

/// out = left · right, or out += left · right.
///
/// # Panics
/// When the shapes do not fit together.
pub fn multiply(out: &mut MatrixMut, left: Matrix, right: Matrix, accumulate: bool) {
    assert_eq!((out.rows, out.columns, left.columns), (left.rows, right.columns, right.rows), "shapes of a product");
    if out.rows == 0 || out.columns == 0 {
        return;
    }
    if left.columns == 0 {
        if !accumulate {
            out.data.chunks_mut(out.row_stride).take(out.rows).for_each(|row| row[..out.columns].fill(0.0));
        }
        return;
    }
    let mut start = 0;
    while start < left.columns {
        let depth = DEPTH.min(left.columns - start);
        let left_data = &left.data[start * left.column_stride..];
        let right_data = &right.data[start * right.row_stride..];
        let accumulate = accumulate || start > 0;
        start += depth;
        if order_differs(out, left, right, depth) {
            let left = Matrix { data: left_data, columns: depth, ..left };
            let right = Matrix { data: right_data, rows: depth, ..right };
            multiply_small(out, left, right, accumulate);
            continue;
        }
        // SAFETY: `Matrix` and `MatrixMut` are only built when their last element lies inside their slice, and strides are
        // not negative, so every element that `gemm` addresses does too; the `depth` columns and rows from `start` on stay
        // within the inner dimension that both share. `out` is borrowed exclusively, so it overlaps neither input, and its rows do not overlap.
        unsafe {
            gemm::gemm(
                out.rows,
                out.columns,
                depth,
                out.data.as_mut_ptr(),
                1,
                out.row_stride as isize,
                accumulate,
                left_data.as_ptr(),
                left.column_stride as isize,
                left.row_stride as isize,
                right_data.as_ptr(),
                right.column_stride as isize,
                right.row_stride as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}

/// Where `gemm` takes another way: sums with one lane a product instead of one lane an element, or one or two outer products.
fn order_differs(out: &MatrixMut, left: Matrix, right: Matrix, depth: usize) -> bool {
    let is_dot = left.column_stride == 1 && right.row_stride == 1;
    depth <= 2 || out.rows == 1 || out.columns == 1 || is_dot && out.rows * out.columns <= 16 * 16
}

/// The same sums as `gemm`'s, one element after another.
#[with_simd(multiply_small = registers())]
#[inline(always)]
fn multiply_small_simd<'a, 'b, S: Simd>(
    _: S,
    out: &'a mut MatrixMut<'b>,
    left: Matrix<'a>,
    right: Matrix<'a>,
    accumulate: bool,
) {
    const LANES: usize = 16;
    for i in 0..out.rows {
        for first in (0..out.columns).step_by(LANES) {
            let n = LANES.min(out.columns - first);
            let mut sums = [0.0f32; LANES];
            for k in 0..left.columns {
                let factor = left.data[i * left.row_stride + k * left.column_stride];
                let start = k * right.row_stride + first * right.column_stride;
                if right.column_stride == 1 && n == LANES {
                    let right = &right.data[start..start + LANES];
                    sums.iter_mut().zip(right).for_each(|(sum, right)| *sum = factor.mul_add(*right, *sum));
                } else {
                    for (j, sum) in sums[..n].iter_mut().enumerate() {
                        *sum = factor.mul_add(right.data[start + j * right.column_stride], *sum);
                    }
                }
            }
            let out = &mut out.data[i * out.row_stride + first..][..n];
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if accumulate { *out + sum } else { sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Address, Purpose, Stream};

    fn draw(n: usize, salt: u32) -> Vec<f32> {
        let mut stream = Stream::new(7, Address { example: salt, ..Address::of(Purpose::View) });
        (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
    }

    /// Bit for bit: ascending fused multiply-adds a piece of 512, pieces added in order.
    fn check(rows: usize, columns: usize, depth: usize, flip: (bool, bool), accumulate: bool) {
        let (a, b) = (draw(rows * depth + 7, 1), draw(depth * columns + 7, 2));
        let at = |flip: bool, i: usize, j: usize, m: usize, n: usize| if flip { j * m + i } else { i * n + j };
        let matrix = |data, flip: bool, m, n| {
            if flip { Matrix::new(data, n, m, m).transposed() } else { Matrix::new(data, m, n, n) }
        };
        let stride = columns + 3;
        let before = draw(rows * stride, 3);
        let mut out = before.clone();
        multiply(
            &mut MatrixMut::new(&mut out, rows, columns, stride),
            matrix(&a, flip.0, rows, depth),
            matrix(&b, flip.1, depth, columns),
            accumulate,
        );
        for i in 0..rows {
            for j in 0..columns {
                let mut expected = if accumulate { before[i * stride + j] } else { 0.0 };
                for piece in (0..depth).collect::<Vec<_>>().chunks(DEPTH) {
                    let sum = piece.iter().fold(0.0f32, |sum, &k| {
                        a[at(flip.0, i, k, rows, depth)].mul_add(b[at(flip.1, k, j, depth, columns)], sum)
                    });
                    expected = if piece[0] == 0 && !accumulate { sum } else { expected + sum };
                }
                let got = out[i * stride + j];
                assert_eq!(
                    got.to_bits(),
                    expected.to_bits(),
                    "{rows}×{columns}×{depth} {flip:?} {accumulate}: {got} {expected}"
                );
            }
            assert_eq!(out[i * stride + columns..(i + 1) * stride], before[i * stride + columns..(i + 1) * stride]);
        }
    }

    #[test]
    fn a_product_is_ascending_fused_multiply_adds() {
        for (rows, columns, depth) in [
            (64, 64, 192),
            (64, 64, 147),
            (5, 64, 21),
            (64, 128, 640),
            (192, 64, 64),
            (96, 64, 128),
            (21, 64, 128),
            (3, 7, 1),
            (1, 1, 3),
            (1, 64, 64),
            (2, 64, 192),
            (64, 1, 30),
            (1, 1, 512),
            (7, 5, 2),
            (33, 17, 513),
            (2, 2, 3),
            (3, 17, 64),
            (16, 10, 1030),
            (16, 16, 512),
            (130, 512, 512),
            (16, 16, 40),
            (20, 24, 1),
            (20, 24, 514),
            (2, 128, 512),
            (15, 17, 600),
        ] {
            for flip in [(false, false), (true, false), (false, true)] {
                for accumulate in [false, true] {
                    check(rows, columns, depth, flip, accumulate);
                }
            }
        }
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let mut out = vec![1.0; 6];
        multiply(&mut MatrixMut::new(&mut out, 2, 2, 3), Matrix::new(&[], 2, 0, 0), Matrix::new(&[], 0, 2, 2), false);
        assert_eq!(out, [0.0, 0.0, 1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    #[should_panic(expected = "leaves 5 numbers")]
    fn a_matrix_outside_its_slice_is_refused() {
        Matrix::new(&[0.0; 5], 2, 3, 3);
    }
}
