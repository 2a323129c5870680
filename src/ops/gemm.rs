//! Matrix products on strided slices, of the rows of [`crate::ops::microkernel`].
//!
//! Each element adds its products in ascending order of depth with fused multiply-adds, in pieces of at most [`DEPTH`] from 0
//! that are added in order: the same chain of operations on every machine and however rows are cut. A right side that does
//! not lie in rows is turned round first, a block at a time, in memory that a thread keeps.

use std::cell::RefCell;

use pulp::{Simd, with_simd};

use crate::ops::microkernel::{self, Left, Out, Right, Size};
use crate::ops::registers::registers;

/// Products that are summed before their sum is added to the sums before it.
pub const DEPTH: usize = 512;

/// Columns of a right side that are turned round at a time: as many as the kernel finishes before the next.
const BLOCK_COLUMNS: usize = 64;

thread_local! {
    /// Depth × columns of a block, rows without gaps.
    static BLOCK: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

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

    /// `n` columns from `start` on, of which the first lies inside.
    fn columns_from(self, start: usize, n: usize) -> Matrix<'a> {
        Matrix { data: &self.data[start * self.column_stride..], columns: n, ..self }
    }

    /// `n` rows from `start` on, of which the first lies inside.
    fn rows_from(self, start: usize, n: usize) -> Matrix<'a> {
        Matrix { data: &self.data[start * self.row_stride..], rows: n, ..self }
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
    for start in (0..left.columns).step_by(DEPTH) {
        let depth = DEPTH.min(left.columns - start);
        let left = left.columns_from(start, depth);
        let right = right.rows_from(start, depth);
        multiply_piece(out, left, right, accumulate || start > 0);
    }
}

fn multiply_piece(out: &mut MatrixMut, left: Matrix, right: Matrix, accumulate: bool) {
    let (rows, depth) = (left.rows, left.columns);
    let side = Left { data: left.data, row_stride: left.row_stride, depth_stride: left.column_stride };
    if right.column_stride == 1 {
        let size = Size { rows, columns: right.columns, depth };
        let right = Right { data: right.data, stride: right.row_stride };
        microkernel::multiply(size, side, right, Out { data: out.data, stride: out.row_stride }, accumulate);
        return;
    }
    BLOCK.with_borrow_mut(|block| {
        block.resize(DEPTH * BLOCK_COLUMNS, 0.0);
        for first in (0..right.columns).step_by(BLOCK_COLUMNS) {
            let columns = BLOCK_COLUMNS.min(right.columns - first);
            turn_round(right, first, columns, block);
            let size = Size { rows, columns, depth };
            let out = Out { data: &mut out.data[first..], stride: out.row_stride };
            microkernel::multiply(size, side, Right { data: block, stride: columns }, out, accumulate);
        }
    });
}

/// The `columns` columns of `matrix` from `first` on, in rows without gaps. Eight rows are written side by side, so that what
/// is read from each column and what is written to each row fills a part of a cache line.
#[with_simd(turn_round = registers())]
#[inline(always)]
pub(in crate::ops) fn turn_round_simd<'a, S: Simd>(
    _: S,
    matrix: Matrix<'a>,
    first: usize,
    columns: usize,
    block: &'a mut [f32],
) {
    const SIDE: usize = 8;
    let Matrix { data, rows, row_stride, column_stride, .. } = matrix;
    for row in (0..rows).step_by(SIDE) {
        for column in (0..columns).step_by(SIDE) {
            let whole = row_stride == 1 && row + SIDE <= rows && column + SIDE <= columns;
            if whole {
                let mut tile = [[0.0f32; SIDE]; SIDE];
                for j in 0..SIDE {
                    tile[j].copy_from_slice(&data[row * row_stride + (first + column + j) * column_stride..][..SIDE]);
                }
                for i in 0..SIDE {
                    let out = &mut block[(row + i) * columns + column..][..SIDE];
                    for j in 0..SIDE {
                        out[j] = tile[j][i];
                    }
                }
                continue;
            }
            for i in row..rows.min(row + SIDE) {
                for j in column..columns.min(column + SIDE) {
                    block[i * columns + j] = data[i * row_stride + (first + j) * column_stride];
                }
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
        let (mut out, left) = (before.clone(), matrix(&a, flip.0, rows, depth));
        let mut target = MatrixMut::new(&mut out, rows, columns, stride);
        multiply(&mut target, left, matrix(&b, flip.1, depth, columns), accumulate);
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
            for flip in [(false, false), (true, false), (false, true), (true, true)] {
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
