//! Winograd's one-dimensional transforms at the points 0, ±1, ±2 and ∞, on registers of channels.
//!
//! Each is applied down the columns of a tile and then along its rows. Every number is the same chain of operations
//! in any register width. Plain loops and no closures: only what is certainly inlined is compiled for the wide registers.

use pulp::Simd;

/// Bᵀ d: six inputs to the six points.
#[inline(always)]
pub fn input<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let four = simd.splat_f32s(4.0);
    let minus_four = simd.splat_f32s(-4.0);
    let minus_five = simd.splat_f32s(-5.0);
    let two = simd.splat_f32s(2.0);
    let first = simd.mul_add_f32s(four, d[0], simd.mul_add_f32s(minus_five, d[2], d[4]));
    let last = simd.mul_add_f32s(four, d[1], simd.mul_add_f32s(minus_five, d[3], d[5]));
    let (even, odd) = (simd.mul_add_f32s(minus_four, d[2], d[4]), simd.mul_add_f32s(minus_four, d[1], d[3]));
    let (even_two, odd_two) = (simd.sub_f32s(d[4], d[2]), simd.mul_f32s(two, simd.sub_f32s(d[3], d[1])));
    [
        first,
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(even_two, odd_two),
        simd.sub_f32s(even_two, odd_two),
        last,
    ]
}

/// Aᵀ m: six points to four outputs.
#[inline(always)]
pub fn output<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let two = simd.splat_f32s(2.0);
    let four = simd.splat_f32s(4.0);
    let eight = simd.splat_f32s(8.0);
    let (sum, difference) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (sum_two, difference_two) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(simd.add_f32s(m[0], sum), sum_two),
        simd.mul_add_f32s(two, difference_two, difference),
        simd.mul_add_f32s(four, sum_two, sum),
        simd.add_f32s(simd.mul_add_f32s(eight, difference_two, difference), m[5]),
    ]
}

/// A dy: gradients of four outputs to the six points.
#[inline(always)]
pub fn output_gradient<S: Simd>(simd: S, y: [S::f32s; 4]) -> [S::f32s; 6] {
    let two = simd.splat_f32s(2.0);
    let four = simd.splat_f32s(4.0);
    let eight = simd.splat_f32s(8.0);
    let (even, odd) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
    let even_two = simd.mul_add_f32s(four, y[2], y[0]);
    let odd_two = simd.mul_add_f32s(eight, y[3], simd.mul_f32s(two, y[1]));
    [
        y[0],
        simd.add_f32s(even, odd),
        simd.sub_f32s(even, odd),
        simd.add_f32s(even_two, odd_two),
        simd.sub_f32s(even_two, odd_two),
        y[3],
    ]
}

/// G g: three taps to the six points.
#[inline(always)]
pub fn filter<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let fourth = simd.splat_f32s(1.0 / 4.0);
    let minus_sixth = simd.splat_f32s(-1.0 / 6.0);
    let sixth = simd.splat_f32s(1.0 / 6.0);
    let twelfth = simd.splat_f32s(1.0 / 12.0);
    let part_24 = simd.splat_f32s(1.0 / 24.0);
    let (even, odd) = (simd.mul_f32s(minus_sixth, simd.add_f32s(g[0], g[2])), simd.mul_f32s(sixth, g[1]));
    let even_two = simd.mul_add_f32s(part_24, g[0], simd.mul_f32s(sixth, g[2]));
    let odd_two = simd.mul_f32s(twelfth, g[1]);
    [
        simd.mul_f32s(fourth, g[0]),
        simd.sub_f32s(even, odd),
        simd.add_f32s(even, odd),
        simd.add_f32s(even_two, odd_two),
        simd.sub_f32s(even_two, odd_two),
        g[2],
    ]
}

/// Gᵀ u: gradients at the six points to those of three taps.
#[inline(always)]
pub fn filter_gradient<S: Simd>(simd: S, u: [S::f32s; 6]) -> [S::f32s; 3] {
    let fourth = simd.splat_f32s(1.0 / 4.0);
    let minus_sixth = simd.splat_f32s(-1.0 / 6.0);
    let sixth = simd.splat_f32s(1.0 / 6.0);
    let twelfth = simd.splat_f32s(1.0 / 12.0);
    let part_24 = simd.splat_f32s(1.0 / 24.0);
    let (sum, difference) = (simd.add_f32s(u[1], u[2]), simd.sub_f32s(u[2], u[1]));
    let (sum_two, difference_two) = (simd.add_f32s(u[3], u[4]), simd.sub_f32s(u[3], u[4]));
    let near = simd.mul_f32s(minus_sixth, sum);
    [
        simd.mul_add_f32s(fourth, u[0], simd.mul_add_f32s(part_24, sum_two, near)),
        simd.mul_add_f32s(sixth, difference, simd.mul_f32s(twelfth, difference_two)),
        simd.add_f32s(simd.mul_add_f32s(sixth, sum_two, near), u[5]),
    ]
}
