//! Products of matrices whose right side lies in rows: what convolutions are made of.
//!
//! Each element is one chain of fused multiply-adds in ascending order of depth, from 0, whatever the registers, the rows and
//! columns beside it and the depth: nothing is packed, nothing cut by a cache's size. So every instruction set leaves the
//! same bits, and a test compares them in one binary. The chains of 6 rows and 4 registers of columns (2 where there are 16
//! registers) run at once, enough to keep the multipliers of a core busy.

// One index into several arrays of registers.
#![allow(clippy::needless_range_loop)]

use pulp::{Simd, WithSimd};

use crate::ops::registers::registers;

/// Rows of one tile of the output.
const ROWS: usize = 6;

/// Columns that are finished for all rows before the next: their part of the right side stays in the second-level cache.
const COLUMNS: usize = 64;

/// Sizes of a product: rows × depth times depth × columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
}

/// The left side: element (i, k) is `data[i · row_stride + k · depth_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    pub data: &'a [f32],
    pub row_stride: usize,
    pub depth_stride: usize,
}

/// The right side: element (k, j) is `data[k · stride + j]`.
#[derive(Debug, Clone, Copy)]
pub struct Right<'a> {
    pub data: &'a [f32],
    pub stride: usize,
}

/// The output: element (i, j) is `data[i · stride + j]`.
#[derive(Debug)]
pub struct Out<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
}

/// out = left · right, or out += left · right.
///
/// # Panics
/// When an element would lie outside its slice.
pub fn multiply(size: Size, left: Left, right: Right, out: Out, accumulate: bool) {
    registers().dispatch(Product { size, left, right, out, accumulate });
}

struct Product<'a> {
    size: Size,
    left: Left<'a>,
    right: Right<'a>,
    out: Out<'a>,
    accumulate: bool,
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.columns::<S, 4>(simd);
        } else {
            self.columns::<S, 2>(simd);
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn columns<S: Simd, const N: usize>(mut self, simd: S) {
        for first in (0..self.size.columns).step_by(COLUMNS) {
            let columns = COLUMNS.min(self.size.columns - first);
            let mut row = 0;
            while row + ROWS <= self.size.rows {
                self.rows::<S, ROWS, N>(simd, row, first, columns);
                row += ROWS;
            }
            match self.size.rows - row {
                1 => self.rows::<S, 1, N>(simd, row, first, columns),
                2 => self.rows::<S, 2, N>(simd, row, first, columns),
                3 => self.rows::<S, 3, N>(simd, row, first, columns),
                4 => self.rows::<S, 4, N>(simd, row, first, columns),
                5 => self.rows::<S, 5, N>(simd, row, first, columns),
                _ => {}
            }
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, row: usize, first: usize, columns: usize) {
        let (wide, lanes) = (N * S::F32_LANES, S::F32_LANES);
        let end = first + columns;
        let mut column = first;
        while column + wide <= end {
            self.tile::<S, M, N, false>(simd, row, column, wide);
            column += wide;
        }
        while column + lanes <= end {
            self.tile::<S, M, 1, false>(simd, row, column, lanes);
            column += lanes;
        }
        if column < end {
            self.tile::<S, M, 1, true>(simd, row, column, end - column);
        }
    }

    /// M rows × N registers of columns, or with `PART` the first `columns` of one register.
    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize, const PART: bool>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        columns: usize,
    ) {
        let Left { data, row_stride, depth_stride } = self.left;
        let zero = simd.splat_f32s(0.0);
        let mut left = [&[][..]; M];
        for (i, left) in left.iter_mut().enumerate() {
            *left = &data[(row + i) * row_stride..];
        }
        let mut sums = [[zero; N]; M];
        for k in 0..self.size.depth {
            let right = &self.right.data[k * self.right.stride + column..][..columns];
            let right = load::<S, N, PART>(simd, right);
            for i in 0..M {
                let factor = simd.splat_f32s(left[i][k * depth_stride]);
                for n in 0..N {
                    sums[i][n] = simd.mul_add_f32s(factor, right[n], sums[i][n]);
                }
            }
        }
        for (i, sums) in sums.iter().enumerate() {
            let out = &mut self.out.data[(row + i) * self.out.stride + column..][..columns];
            let mut total = *sums;
            if self.accumulate {
                let before = load::<S, N, PART>(simd, out);
                for n in 0..N {
                    total[n] = simd.add_f32s(before[n], sums[n]);
                }
            }
            if PART {
                simd.partial_store_f32s(out, total[0]);
            } else {
                S::as_mut_simd_f32s(out).0.copy_from_slice(&total);
            }
        }
    }
}

/// The registers of a row. Plain loops and no closures: only what is certainly inlined is compiled for the wide registers.
#[inline(always)]
fn load<S: Simd, const N: usize, const PART: bool>(simd: S, row: &[f32]) -> [S::f32s; N] {
    let mut out = [simd.splat_f32s(0.0); N];
    if PART {
        out[0] = simd.partial_load_f32s(row);
    } else {
        out.copy_from_slice(S::as_simd_f32s(row).0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::registers::forced;
    use crate::random::{Address, Purpose, Stream};

    fn draw(n: usize, salt: u32) -> Vec<f32> {
        let mut stream = Stream::new(7, Address { example: salt, ..Address::of(Purpose::View) });
        (0..n).map(|_| stream.uniform(-1.0, 1.0)).collect()
    }

    fn check(size: Size, transposed: bool, accumulate: bool) {
        let Size { rows, columns, depth } = size;
        let (row_stride, depth_stride) = if transposed { (1, rows + 2) } else { (depth + 1, 1) };
        let (right_stride, out_stride) = (columns + 3, columns + 5);
        let left = draw((rows + 2) * (depth + 2), 1);
        let right = draw(depth * right_stride, 2);
        let before = draw(rows * out_stride, 3);
        let mut expected = before.clone();
        for i in 0..rows {
            for j in 0..columns {
                let sum = (0..depth).fold(0.0f32, |sum, k| {
                    left[i * row_stride + k * depth_stride].mul_add(right[k * right_stride + j], sum)
                });
                let out = &mut expected[i * out_stride + j];
                *out = if accumulate { *out + sum } else { sum };
            }
        }
        for (name, choice) in forced::choices() {
            let _registers = forced::force(choice);
            let mut out = before.clone();
            multiply(
                size,
                Left { data: &left, row_stride, depth_stride },
                Right { data: &right, stride: right_stride },
                Out { data: &mut out, stride: out_stride },
                accumulate,
            );
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert!(bits(&out) == bits(&expected), "{name}: {size:?} {transposed} {accumulate}");
        }
    }

    #[test]
    fn a_product_is_ascending_fused_multiply_adds_on_every_instruction_set() {
        for (rows, columns, depth) in [
            (1, 1, 1),
            (6, 64, 9),
            (7, 64, 64),
            (12, 128, 3),
            (5, 63, 20),
            (4, 17, 600),
            (3, 130, 2),
            (2, 16, 1030),
            (20, 40, 33),
            (0, 5, 4),
            (3, 0, 4),
            (3, 5, 0),
        ] {
            for transposed in [false, true] {
                for accumulate in [false, true] {
                    check(Size { rows, columns, depth }, transposed, accumulate);
                }
            }
        }
    }
}
