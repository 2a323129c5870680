//! Winograd's one-dimensional transforms at the points 0, ±3/4, ±3/2 and ∞, on registers of channels.
//!
//! Rounding errors are less than half of those at the usual 0, ±1, ±2: the powers of the points stay closer to 1. All
//! constants but those of the filters are exact. Each transform is applied down the columns of a tile and then along its
//! rows. Every number is the same chain of operations in any register width. Plain loops and no closures: only what is
//! certainly inlined is compiled for the wide registers.

use pulp::Simd;

/// The inner and the outer points, and their powers.
const INNER: f64 = 0.75;
const OUTER: f64 = 1.5;
const INNER_2: f64 = INNER * INNER;
const OUTER_2: f64 = OUTER * OUTER;
const INNER_3: f64 = INNER_2 * INNER;
const OUTER_3: f64 = OUTER_2 * OUTER;

/// What the other points take of a filter's polynomial at 0, at the inner and at the outer points.
const AT_ZERO: f64 = 1.0 / (INNER_2 * OUTER_2);
const AT_INNER: f64 = 1.0 / (2.0 * INNER_2 * (INNER_2 - OUTER_2));
const AT_OUTER: f64 = 1.0 / (2.0 * OUTER_2 * (OUTER_2 - INNER_2));

#[inline(always)]
fn splat<S: Simd>(simd: S, value: f64) -> S::f32s {
    simd.splat_f32s(value as f32)
}

/// factor · a + b.
#[inline(always)]
fn add_times<S: Simd>(simd: S, factor: f64, a: S::f32s, b: S::f32s) -> S::f32s {
    simd.mul_add_f32s(splat(simd, factor), a, b)
}

#[inline(always)]
fn times<S: Simd>(simd: S, factor: f64, a: S::f32s) -> S::f32s {
    simd.mul_f32s(splat(simd, factor), a)
}

/// Bᵀ d: six inputs to the six points.
#[inline(always)]
pub fn input<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let first = add_times(simd, INNER_2 * OUTER_2, d[0], add_times(simd, -INNER_2 - OUTER_2, d[2], d[4]));
    let last = add_times(simd, INNER_2 * OUTER_2, d[1], add_times(simd, -INNER_2 - OUTER_2, d[3], d[5]));
    let even_inner = add_times(simd, -OUTER_2, d[2], d[4]);
    let odd_inner = times(simd, INNER, add_times(simd, -OUTER_2, d[1], d[3]));
    let even_outer = add_times(simd, -INNER_2, d[2], d[4]);
    let odd_outer = times(simd, OUTER, add_times(simd, -INNER_2, d[1], d[3]));
    [
        first,
        simd.add_f32s(even_inner, odd_inner),
        simd.sub_f32s(even_inner, odd_inner),
        simd.add_f32s(even_outer, odd_outer),
        simd.sub_f32s(even_outer, odd_outer),
        last,
    ]
}

/// Aᵀ m: six points to four outputs.
#[inline(always)]
pub fn output<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let (even_inner, odd_inner) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even_outer, odd_outer) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(simd.add_f32s(m[0], even_inner), even_outer),
        add_times(simd, OUTER, odd_outer, times(simd, INNER, odd_inner)),
        add_times(simd, OUTER_2, even_outer, times(simd, INNER_2, even_inner)),
        add_times(simd, OUTER_3, odd_outer, add_times(simd, INNER_3, odd_inner, m[5])),
    ]
}

/// A dy: gradients of four outputs to the six points.
#[inline(always)]
pub fn output_gradient<S: Simd>(simd: S, y: [S::f32s; 4]) -> [S::f32s; 6] {
    let even_inner = add_times(simd, INNER_2, y[2], y[0]);
    let odd_inner = add_times(simd, INNER_3, y[3], times(simd, INNER, y[1]));
    let even_outer = add_times(simd, OUTER_2, y[2], y[0]);
    let odd_outer = add_times(simd, OUTER_3, y[3], times(simd, OUTER, y[1]));
    [
        y[0],
        simd.add_f32s(even_inner, odd_inner),
        simd.sub_f32s(even_inner, odd_inner),
        simd.add_f32s(even_outer, odd_outer),
        simd.sub_f32s(even_outer, odd_outer),
        y[3],
    ]
}

/// G g: three taps to the six points.
#[inline(always)]
pub fn filter<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let even_inner = add_times(simd, INNER_2 * AT_INNER, g[2], times(simd, AT_INNER, g[0]));
    let odd_inner = times(simd, INNER * AT_INNER, g[1]);
    let even_outer = add_times(simd, OUTER_2 * AT_OUTER, g[2], times(simd, AT_OUTER, g[0]));
    let odd_outer = times(simd, OUTER * AT_OUTER, g[1]);
    [
        times(simd, AT_ZERO, g[0]),
        simd.add_f32s(even_inner, odd_inner),
        simd.sub_f32s(even_inner, odd_inner),
        simd.add_f32s(even_outer, odd_outer),
        simd.sub_f32s(even_outer, odd_outer),
        g[2],
    ]
}

/// Gᵀ u: gradients at the six points to those of three taps.
#[inline(always)]
pub fn filter_gradient<S: Simd>(simd: S, u: [S::f32s; 6]) -> [S::f32s; 3] {
    let (even_inner, odd_inner) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[1], u[2]));
    let (even_outer, odd_outer) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
    let first = add_times(simd, AT_OUTER, even_outer, times(simd, AT_ZERO, u[0]));
    let last = add_times(simd, OUTER_2 * AT_OUTER, even_outer, u[5]);
    [
        add_times(simd, AT_INNER, even_inner, first),
        add_times(simd, INNER * AT_INNER, odd_inner, times(simd, OUTER * AT_OUTER, odd_outer)),
        add_times(simd, INNER_2 * AT_INNER, even_inner, last),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On one lane of plain numbers.
    fn scalars<const N: usize, const M: usize>(
        transform: impl Fn(pulp::Scalar, [f32; N]) -> [f32; M],
        values: [f32; N],
    ) -> [f64; M] {
        transform(pulp::Scalar, values).map(f64::from)
    }

    /// Correlation of six inputs with three taps: y = Aᵀ[(G g) ⊙ (Bᵀ d)], and its adjoints.
    #[test]
    fn they_compute_a_correlation_and_its_gradients() {
        let d = [0.3, -1.25, 0.5, 0.875, -0.625, 1.5f32];
        let g = [0.75, -0.5, 1.125f32];
        let dy = [1.0, -0.25, 0.5, 0.375f32];
        let (points, filters) = (scalars(input, d), scalars(filter, g));
        let products = |a: [f64; 6], b: [f64; 6]| -> [f32; 6] { std::array::from_fn(|i| (a[i] * b[i]) as f32) };
        let y = scalars(output, products(points, filters));
        for (at, y) in y.into_iter().enumerate() {
            let expected: f64 = (0..3).map(|tap| f64::from(d[at + tap]) * f64::from(g[tap])).sum();
            assert!((y - expected).abs() < 1e-6, "y[{at}] {y} for {expected}");
        }
        let dg = scalars(filter_gradient, products(points, scalars(output_gradient, dy)));
        for (tap, dg) in dg.into_iter().enumerate() {
            let expected: f64 = (0..4).map(|at| f64::from(d[at + tap]) * f64::from(dy[at])).sum();
            assert!((dg - expected).abs() < 1e-6, "dg[{tap}] {dg} for {expected}");
        }
    }
}
