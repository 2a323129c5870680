//! The figure of features: test images as the frozen encoder sees them, on the two directions of the greatest spread.

use maud::{Markup, html};

use crate::report::page::figure::{COLORS, Entry, Figure, Mark, Panel, WIDTH, color, px, shortened};
use crate::report::page::scale::Scale;
use crate::report::principal_components::Projection;

const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 14.0;
const BOTTOM: f64 = HEIGHT - 26.0;
/// Images drawn of a map, the first of the test part.
pub const IMAGES_MAX: usize = 1_000;
/// Classes that are named.
const NAMES_MAX: usize = 24;

/// The features of one encoder, projected.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMap {
    /// `64, 0.1, seed 0`.
    pub title: String,
    pub projection: Projection,
    /// The class of each point.
    pub labels: Vec<u32>,
    pub class_names: Vec<String>,
}

/// None without a map.
pub fn figure(maps: &[FeatureMap]) -> Option<Figure> {
    let first = maps.first()?;
    let n_classes = maps.iter().flat_map(|map| &map.labels).max().map_or(0, |label| *label as usize + 1);
    let entry = |class: usize| Entry { class: color(class), label: first.class_name(class), mark: Mark::Point(0) };
    let n_points = maps.iter().map(|map| map.projection.points.len()).max().unwrap_or(0);
    let again = if n_classes > COLORS { " Colours repeat; names stand at the middle of their class." } else { "" };
    Some(Figure {
        name: "features".to_owned(),
        title: "Map of test features".to_owned(),
        caption: format!(
            "The first {n_points} test images of an encoder, principal components of its features; the names stand at the \
             mean of each class.{again}"
        ),
        panels: maps.iter().map(panel).collect(),
        legend: (0..n_classes.min(NAMES_MAX)).map(entry).collect(),
    })
}

impl FeatureMap {
    fn class_name(&self, class: usize) -> String {
        self.class_names.get(class).cloned().unwrap_or_else(|| format!("class {class}"))
    }
}

fn panel(map: &FeatureMap) -> Panel {
    let FeatureMap { title, projection, labels, class_names: _ } = map;
    let along = |axis: usize| projection.points.iter().map(move |point| point[axis]);
    let x = Scale::linear(along(0), MARGIN, WIDTH - MARGIN);
    let y = Scale::linear(along(1), BOTTOM - MARGIN, MARGIN);
    let n_classes = labels.iter().max().map_or(0, |label| *label as usize + 1);
    let of_class =
        |class: usize| projection.points.iter().zip(labels).filter(move |(_, label)| **label as usize == class);
    let cloud = |class: usize| -> String {
        of_class(class).map(|(point, _)| format!("M{} {}h0", px(x.place(point[0])), px(y.place(point[1])))).collect()
    };
    let [first, second] = projection.explained.map(|share| format!("{:.0} %", 100.0 * share));
    let body = html! {
        line.axis x1=(px(MARGIN)) x2=(px(WIDTH - MARGIN)) y1=(px(BOTTOM)) y2=(px(BOTTOM)) {}
        @for class in 0..n_classes {
            @let points = cloud(class);
            @if !points.is_empty() { path class={ "cloud " (color(class)) } d=(points) {} }
        }
        @for class in 0..n_classes.min(NAMES_MAX) {
            @let members: Vec<[f64; 2]> = of_class(class).map(|(point, _)| *point).collect();
            @if !members.is_empty() { (name(&map.class_name(class), &members, (&x, &y))) }
        }
        text.name x=(px(WIDTH / 2.0)) y=(px(HEIGHT - 8.0)) text-anchor="middle" {
            (first) " of the variance across, " (second) " upwards"
        }
    };
    Panel {
        title: title.clone(),
        description: format!("Map of {} test features of {title}, coloured by {n_classes} classes", labels.len()),
        width: WIDTH,
        height: HEIGHT,
        body,
    }
}

/// A class's name on a light patch at the mean of its members.
fn name(name: &str, members: &[[f64; 2]], (x, y): (&Scale, &Scale)) -> Markup {
    let mean = |axis: usize| members.iter().map(|point| point[axis]).sum::<f64>() / members.len() as f64;
    let name = shortened(name, 14);
    let half = 3.1 * name.chars().count() as f64 + 4.0;
    let left = x.place(mean(0)).clamp(half + 2.0, WIDTH - half - 2.0);
    let top = y.place(mean(1));
    html! {
        rect.halo x=(px(left - half)) y=(px(top - 8.0)) width=(px(2.0 * half)) height="15" rx="3" {}
        text x=(px(left)) y=(px(top + 3.5)) text-anchor="middle" { (name) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_a_cloud_and_a_name() {
        let points = vec![[0.0, 0.0], [1.0, 1.0], [2.0, 0.0], [3.0, 1.0]];
        let map = FeatureMap {
            title: "64, seed 0".to_owned(),
            projection: Projection { points, explained: [0.6, 0.25] },
            labels: vec![0, 2, 0, 2],
            class_names: vec!["disc".to_owned(), "ring".to_owned(), "<i>".to_owned()],
        };
        let figure = figure(&[map]).unwrap();
        let body = figure.panels[0].body.clone().into_string();
        assert_eq!((body.matches("cloud").count(), body.matches("h0").count(), figure.legend.len()), (2, 4, 3));
        assert!(!body.contains("<i>"));
        insta::assert_snapshot!(body.replace("><", ">\n<"));
        assert!(super::figure(&[]).is_none());
    }
}
