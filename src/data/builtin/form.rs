//! The forms that are the classes: ten outlines in ten styles.
//!
//! A form is a signed distance, negative inside, in units of half an image. What tells two forms apart survives a
//! crop, a flip, a moderate rotation and any change of colour: never a frequency, a size or a place, which a crop
//! changes.

use std::f32::consts::{PI, TAU};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outline {
    Stripes,
    Checkers,
    Rings,
    Disc,
    Triangle,
    Cross,
    Spiral,
    Star,
    Frame,
    Dots,
}

/// What is done to an outline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    /// Only its edge is drawn.
    Hollow,
    /// Its edge runs in waves.
    Wavy,
    /// A band across it is missing.
    Cut,
    /// A lattice of round holes is missing.
    Punched,
    /// Only every other thin line across it is drawn.
    Ruled,
    /// It shrinks and gets a line around it.
    Haloed,
    /// Inside and outside swap in two of the four quadrants.
    Quartered,
    /// A circle is drawn around it.
    Ringed,
    /// Only one half is drawn.
    Halved,
}

const OUTLINES: [Outline; 10] = [
    Outline::Stripes,
    Outline::Checkers,
    Outline::Rings,
    Outline::Disc,
    Outline::Triangle,
    Outline::Cross,
    Outline::Spiral,
    Outline::Star,
    Outline::Frame,
    Outline::Dots,
];

const STYLES: [Style; 10] = [
    Style::Plain,
    Style::Hollow,
    Style::Wavy,
    Style::Cut,
    Style::Punched,
    Style::Ruled,
    Style::Haloed,
    Style::Quartered,
    Style::Ringed,
    Style::Halved,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    outline: Outline,
    style: Style,
}

impl Form {
    pub const COUNT: u32 = (OUTLINES.len() * STYLES.len()) as u32;

    /// The first ten classes are the plain outlines.
    ///
    /// # Panics
    /// From `COUNT` on.
    pub fn of_class(class: u32) -> Form {
        let class = class as usize;
        Form { outline: OUTLINES[class % OUTLINES.len()], style: STYLES[class / OUTLINES.len()] }
    }

    /// `star`, `hollow star`.
    pub fn name(self) -> String {
        let outline = format!("{:?}", self.outline).to_lowercase();
        match self.style {
            Style::Plain => outline,
            Style::Hollow
            | Style::Wavy
            | Style::Cut
            | Style::Punched
            | Style::Ruled
            | Style::Haloed
            | Style::Quartered
            | Style::Ringed
            | Style::Halved => format!("{:?} {outline}", self.style).to_lowercase(),
        }
    }

    /// Signed distance to the edge at (x, y), negative inside; exact only near the edge.
    pub fn distance(self, x: f32, y: f32) -> f32 {
        let d = |x, y| self.outline.distance(x, y);
        match self.style {
            Style::Plain => d(x, y),
            Style::Hollow => d(x, y).abs() - 0.055,
            Style::Wavy => {
                let wave = |t: f32| 0.1 * libm::sinf(11.0 * t);
                d(x + wave(y), y + wave(x))
            }
            Style::Cut => d(x, y).max(0.16 - y.abs()),
            Style::Punched => d(x, y).max(0.1 - length(cell(x, 0.33), cell(y, 0.33))),
            Style::Ruled => d(x, y).max(band(y, 0.25, 0.065)),
            Style::Haloed => (d(x, y) + 0.13).min((d(x, y) - 0.06).abs() - 0.045),
            Style::Quartered => d(x, y) * if (x < 0.0) == (y < 0.0) { 1.0 } else { -1.0 },
            Style::Ringed => d(x, y).min((length(x, y) - 0.8).abs() - 0.06),
            Style::Halved => d(x, y).max(x),
        }
    }
}

impl Outline {
    fn distance(self, x: f32, y: f32) -> f32 {
        let r = length(x, y);
        match self {
            Outline::Stripes => band(x, 0.5, 0.11),
            Outline::Checkers => {
                let (u, v) = (cell(x, 0.7), cell(y, 0.7));
                let to_line = |t: f32| t.abs().min(0.35 - t.abs());
                let d = to_line(u).min(to_line(v));
                if (u < 0.0) == (v < 0.0) { -d } else { d }
            }
            Outline::Rings => band(r, 0.45, 0.1),
            Outline::Disc => r - 0.6,
            Outline::Triangle => triangle(x, y, 0.36),
            Outline::Cross => rectangle(x, y, 0.7, 0.2).min(rectangle(x, y, 0.2, 0.7)),
            Outline::Spiral => band(r - 0.5 * libm::atan2f(y, x) / TAU, 0.5, 0.11),
            Outline::Star => star(x, y, 0.75, 0.3),
            Outline::Frame => rectangle(x, y, 0.5, 0.5).abs() - 0.14,
            Outline::Dots => length(cell(x, 0.45), cell(y, 0.45)) - 0.13,
        }
    }
}

fn length(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// Offset from the centre of the cell of width `period` that `t` lies in.
fn cell(t: f32, period: f32) -> f32 {
    t - period * (t / period + 0.5).floor()
}

/// Distance to a repeated band of the given half width.
fn band(t: f32, period: f32, half_width: f32) -> f32 {
    cell(t, period).abs() - half_width
}

fn rectangle(x: f32, y: f32, half_width: f32, half_height: f32) -> f32 {
    (x.abs() - half_width).max(y.abs() - half_height)
}

/// Equilateral, by the radius of its inner circle.
fn triangle(x: f32, y: f32, inner_radius: f32) -> f32 {
    let slant = 0.866_025_4 * x.abs() - 0.5 * y;
    slant.max(y) - inner_radius
}

/// Five points: the plane is folded into half a point, where the edge is a straight line from the tip to the notch.
fn star(x: f32, y: f32, outer: f32, inner: f32) -> f32 {
    let angle = libm::atan2f(x, y);
    let folded = cell(angle, TAU / 5.0).abs();
    let r = length(x, y);
    let (px, py) = (r * libm::sinf(folded), r * libm::cosf(folded));
    let (notch_x, notch_y) = (inner * libm::sinf(PI / 5.0), inner * libm::cosf(PI / 5.0));
    let (edge_x, edge_y) = (notch_x, notch_y - outer);
    ((py - outer) * edge_x - px * edge_y) / length(edge_x, edge_y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<String> = (0..Form::COUNT).map(|class| Form::of_class(class).name()).collect();
        assert_eq!((names[7].as_str(), names[17].as_str()), ("star", "hollow star"));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 100);
    }

    /// Inside, outside and on the edge, where geometry gives them.
    #[test]
    fn distances_are_those_of_the_shapes() {
        let check = |outline: Outline, x: f32, y: f32, expected: f32| {
            let found = outline.distance(x, y);
            assert!((found - expected).abs() < 1e-5, "{outline:?} at {x}, {y}: {found} and not {expected}");
        };
        check(Outline::Disc, 0.6, 0.0, 0.0);
        check(Outline::Disc, 0.0, 0.0, -0.6);
        check(Outline::Stripes, 0.5, 0.3, -0.11);
        check(Outline::Stripes, 0.25, -0.7, 0.14);
        check(Outline::Rings, 0.0, 0.45, -0.1);
        check(Outline::Triangle, 0.0, 0.36, 0.0);
        check(Outline::Triangle, 0.0, -0.72, 0.0);
        check(Outline::Cross, 0.7, 0.1, 0.0);
        check(Outline::Cross, 0.4, 0.4, 0.2);
        check(Outline::Star, 0.0, 0.75, 0.0);
        check(Outline::Star, 0.3 * (PI / 5.0).sin(), 0.3 * (PI / 5.0).cos(), 0.0);
        check(Outline::Frame, 0.5, 0.0, -0.14);
        check(Outline::Frame, 0.0, 0.0, 0.36);
        check(Outline::Dots, 0.45, -0.45, -0.13);
        check(Outline::Checkers, 0.175, 0.175, -0.175);
        check(Outline::Checkers, -0.175, 0.175, 0.175);
    }

    /// No two forms cover the same points, not even after a quarter turn or a flip.
    #[test]
    fn no_two_forms_are_alike() {
        let coverage = |form: Form, turn: usize| -> Vec<bool> {
            let grid = (0..24).flat_map(|row| (0..24).map(move |column| (row, column)));
            let place = |index: i32| (index as f32 - 11.5) / 12.0;
            grid.map(|(row, column)| {
                let (x, y) = (place(column), place(row));
                let (x, y) = [(x, y), (-x, y), (-y, x), (y, -x)][turn];
                form.distance(x, y) < 0.0
            })
            .collect()
        };
        let all: Vec<[Vec<bool>; 4]> =
            (0..Form::COUNT).map(|class| [0, 1, 2, 3].map(|turn| coverage(Form::of_class(class), turn))).collect();
        for a in 0..Form::COUNT {
            let covered = &all[a as usize][0];
            let n_inside = covered.iter().filter(|&&inside| inside).count();
            assert!((30..=480).contains(&n_inside), "{} covers {n_inside} of 576", Form::of_class(a).name());
            for (b, turn) in (0..a).flat_map(|b| (0..4).map(move |turn| (b, turn))) {
                let other = &all[b as usize][turn];
                let n_different = covered.iter().zip(other).filter(|(a, b)| a != b).count();
                assert!(
                    n_different >= 20,
                    "{} and {} differ in {n_different} of 576 points",
                    Form::of_class(a).name(),
                    Form::of_class(b).name()
                );
            }
        }
    }
}
