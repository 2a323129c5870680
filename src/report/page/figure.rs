//! Figures: panels of SVG with a legend, for a page, whose style sheet colours them, and for files of their own.
//!
//! A figure names classes, never colours: the page turns them for a dark screen, and a file brings its own few rules. The
//! shapes are the same bytes in both.

use maud::{Markup, PreEscaped, html};

use crate::report::page::scale::Scale;

/// Colours that are told apart, also by the colour-blind (after Okabe and Ito 2008); further series begin again.
pub const COLORS: usize = 10;
/// Ways to break a line.
pub const DASHES: usize = 4;

/// Pixels of a panel with two axes; text keeps its size on a telephone because a panel is no wider.
pub const WIDTH: f64 = 360.0;
pub const HEIGHT: f64 = 236.0;
/// The place of the data within.
pub const LEFT: f64 = 48.0;
pub const RIGHT: f64 = WIDTH - 10.0;
pub const TOP: f64 = 30.0;
pub const BOTTOM: f64 = HEIGHT - 40.0;

/// Panels beside each other in a file.
const PANELS_PER_ROW: usize = 3;
const LEGEND_LINE: f64 = 20.0;
/// Pixels a character takes on average, at the size of a figure's text.
const CHARACTER: f64 = 6.2;

/// Several drawings with one message.
#[derive(Debug, Clone)]
pub struct Figure {
    /// Of its file.
    pub name: String,
    pub title: String,
    /// What is drawn, for those who read the page alone; bands and whiskers are named here.
    pub caption: String,
    pub panels: Vec<Panel>,
    pub legend: Vec<Entry>,
}

/// One drawing.
#[derive(Debug, Clone)]
pub struct Panel {
    /// Above the drawing; empty for none.
    pub title: String,
    /// For those who hear the page.
    pub description: String,
    pub width: f64,
    pub height: f64,
    pub body: Markup,
}

/// A series in the legend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub class: String,
    pub label: String,
    pub mark: Mark,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line broken in the way of this number.
    Line(usize),
    /// A point of the shape of this number.
    Point(usize),
}

/// The class of a series.
pub fn color(index: usize) -> String {
    format!("s{}", index % COLORS)
}

/// How a line is broken, for `stroke-dasharray`.
pub fn dash(index: usize) -> &'static str {
    ["none", "6 3", "2 2.5", "8 3 2 3"][index % DASHES]
}

/// A coordinate: a tenth of a pixel is finer than any screen.
pub fn px(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// At most so many characters, the last one `…` where some are left out.
pub fn shortened(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(1)).chain(['…']).collect()
}

/// A point of the shape of this number at a place.
pub fn point(shape: usize, x: f64, y: f64, radius: f64) -> Markup {
    let (x0, y0, r) = (x, y, radius);
    let polygon = |corners: &[(f64, f64)]| {
        let text: Vec<String> =
            corners.iter().map(|(dx, dy)| format!("{},{}", px(x0 + dx * r), px(y0 + dy * r))).collect();
        html! { polygon.dot points=(text.join(" ")) {} }
    };
    match shape % 4 {
        0 => html! { circle.dot cx=(px(x)) cy=(px(y)) r=(px(r)) {} },
        1 => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        2 => polygon(&[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]),
        _ => polygon(&[(0.0, -1.3), (1.1, 0.0), (0.0, 1.3), (-1.1, 0.0)]),
    }
}

/// Grid, marks and names of both axes around what is drawn on them.
pub fn axes(x: &Scale, y: &Scale, (x_name, y_name): (&str, &str), data: &Markup) -> Markup {
    html! {
        @for tick in y.ticks() {
            line.grid x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(tick.at)) y2=(px(tick.at)) {}
            text.tick x=(px(LEFT - 6.0)) y=(px(tick.at + 3.5)) text-anchor="end" { (tick.text) }
        }
        line.axis x1=(px(LEFT)) x2=(px(RIGHT)) y1=(px(BOTTOM)) y2=(px(BOTTOM)) {}
        @for tick in x.ticks() {
            line.axis x1=(px(tick.at)) x2=(px(tick.at)) y1=(px(BOTTOM)) y2=(px(BOTTOM + 4.0)) {}
            text.tick x=(px(tick.at)) y=(px(BOTTOM + 16.0)) text-anchor="middle" { (tick.text) }
        }
        text.name x=(px((LEFT + RIGHT) / 2.0)) y=(px(HEIGHT - 8.0)) text-anchor="middle" { (x_name) }
        text.name x="2" y="12" { (y_name) }
        (data)
    }
}

impl Figure {
    /// For a page, whose style sheet colours it: the panels flow, the legend is text.
    pub fn inline(&self) -> Markup {
        html! {
            figure.figure id=(format!("figure-{}", self.name)) {
                @if !self.title.is_empty() { h3 { (self.title) } }
                @if !self.legend.is_empty() {
                    ul.legend {
                        @for entry in &self.legend {
                            li {
                                svg class=(entry.class) width="26" height="12" viewBox="0 0 26 12" aria-hidden="true" {
                                    (legend_mark(entry.mark))
                                }
                                span { (entry.label) }
                            }
                        }
                    }
                }
                div.panels {
                    @for panel in &self.panels {
                        div.panel {
                            @if !panel.title.is_empty() { p.panel-title { (panel.title) } }
                            svg role="img" viewBox=(format!("0 0 {} {}", px(panel.width), px(panel.height)))
                                width=(px(panel.width)) height=(px(panel.height)) aria-label=(panel.description) {
                                (panel.body)
                            }
                        }
                    }
                }
                figcaption { (self.caption) }
            }
        }
    }

    /// A file of its own: black on white, the panels in a grid, the legend below.
    pub fn standalone(&self) -> String {
        let title_height = if self.panels.iter().all(|panel| panel.title.is_empty()) { 0.0 } else { 20.0 };
        let width_of = |panels: &[Panel]| panels.iter().map(|panel| panel.width).sum::<f64>();
        let height_of = |panels: &[Panel]| panels.iter().map(|panel| panel.height).fold(0.0, f64::max) + title_height;
        let width = self.panels.chunks(PANELS_PER_ROW).map(width_of).fold(0.0, f64::max).max(WIDTH);
        let mut body = String::new();
        let mut top = 0.0;
        for row in self.panels.chunks(PANELS_PER_ROW) {
            let mut left = 0.0;
            for panel in row {
                let place = format!("translate({} {})", px(left), px(top + title_height));
                let drawn = html! {
                    g transform=(place) {
                        @if !panel.title.is_empty() { text.title x="2" y="-6" { (panel.title) } }
                        (panel.body)
                    }
                };
                body.push_str(&drawn.into_string());
                left += panel.width;
            }
            top += height_of(row);
        }
        let (legend, height) = self.drawn_legend(width, top);
        body.push_str(&legend);
        let margin = 10.0;
        let (width, height) = (width + 2.0 * margin, height + 2.0 * margin);
        let whole = html! {
            svg xmlns="http://www.w3.org/2000/svg" width=(px(width)) height=(px(height))
                viewBox=(format!("{0} {0} {1} {2}", px(-margin), px(width), px(height))) {
                title { (self.title) }
                style { (PreEscaped(STYLE)) }
                rect x=(px(-margin)) y=(px(-margin)) width=(px(width)) height=(px(height)) fill="#ffffff" {}
                (PreEscaped(body))
            }
        };
        without_controls(&whole.into_string())
    }

    /// The legend from `top` on, as wide as the figure, and where it ends.
    fn drawn_legend(&self, width: f64, top: f64) -> (String, f64) {
        let (mut left, mut line) = (0.0, top + 8.0);
        let mut drawn = String::new();
        for entry in &self.legend {
            let entry_width = 46.0 + CHARACTER * entry.label.chars().count() as f64;
            if left > 0.0 && left + entry_width > width {
                (left, line) = (0.0, line + LEGEND_LINE);
            }
            let mark = html! {
                g transform=(format!("translate({} {})", px(left), px(line))) {
                    g class=(entry.class) { (legend_mark(entry.mark)) }
                    text.tick x="32" y="10" { (entry.label) }
                }
            };
            drawn.push_str(&mark.into_string());
            left += entry_width;
        }
        let end = if self.legend.is_empty() { top } else { line + LEGEND_LINE };
        (drawn, end)
    }
}

fn legend_mark(mark: Mark) -> Markup {
    match mark {
        Mark::Line(index) => html! { line.curve x1="1" x2="25" y1="6" y2="6" stroke-dasharray=(dash(index)) {} },
        Mark::Point(shape) => point(shape, 13.0, 6.0, 4.5),
    }
}

/// Characters that no SVG, HTML or terminal should be given become U+FFFD: controls, and overrides of the writing direction.
pub fn without_controls(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
    };
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// What the page's style sheet says of figures, in the colours of paper.
const STYLE: &str = include_str!("figure.css");

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Figure {
        let (x, y) = (Scale::exact(0.0, 10.0, LEFT, RIGHT), Scale::exact(0.0, 1.0, BOTTOM, TOP));
        let data = html! { g class=(color(1)) { (point(2, x.place(5.0), y.place(0.5), 4.0)) } };
        let panel = Panel {
            title: "a < b & \"c\"".to_owned(),
            description: "one point".to_owned(),
            width: WIDTH,
            height: HEIGHT,
            body: axes(&x, &y, ("step", "loss in nats"), &data),
        };
        let entry = Entry { class: color(1), label: "x\u{202e}y\u{7}".to_owned(), mark: Mark::Line(1) };
        Figure {
            name: "sample".to_owned(),
            title: "Sample".to_owned(),
            caption: "One point.".to_owned(),
            panels: vec![panel],
            legend: vec![entry],
        }
    }

    #[test]
    fn a_file_is_whole_xml_with_its_own_style() {
        let text = sample().standalone();
        insta::assert_snapshot!(text.replace(STYLE, "(style)").replace("><", ">\n<"));
        let options = resvg::usvg::Options::default();
        assert!(resvg::usvg::Tree::from_str(&text, &options).is_ok(), "{text}");
    }

    #[test]
    fn a_page_gets_the_same_shapes_without_a_color() {
        let inline = sample().inline().into_string();
        assert!(sample().standalone().contains(&sample().panels[0].body.clone().into_string()));
        assert!(inline.contains("a &lt; b &amp; &quot;c&quot;"), "{inline}");
        for forbidden in ["style=", "<style", "#", "http"] {
            assert!(!inline.contains(forbidden), "{forbidden} in {inline}");
        }
    }

    #[test]
    fn long_labels_are_cut_between_characters() {
        assert_eq!(shortened("größer", 6), "größer");
        assert_eq!(shortened("größer", 4), "grö…");
        assert_eq!([px(1.0), px(-0.25), px(12.34)], ["1", "-0.2", "12.3"]);
    }
}
