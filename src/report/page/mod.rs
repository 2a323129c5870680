//! An experiment as one page of HTML: question, verdict, table, figures, every cell's settings and origin, the data.
//!
//! The page is a function of its parts. It needs no network, no server and no other file: styles, script, pictures and data
//! are in it, its figures are inline SVG that a dark screen recolours, and its security policy lets a browser run its own
//! script, by digest, and nothing else. Every text passes through the escaping of `maud`.

mod cells;
mod cost;
mod curves;
pub mod feature_map;
pub mod figure;
pub mod figure_files;
pub mod grid;
mod heat_map;
mod intervals;
mod overview;
mod scale;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use crate::experiment::Experiment;
use crate::report::histories::RunHistory;
use crate::report::page::feature_map::FeatureMap;
use crate::report::page::figure::Figure;
use crate::report::table::AblationTable;

pub use crate::report::page::cells::{CellDetails, FailureDetails, Metrics, StageDetails};
pub use crate::report::page::cost::Spent;
pub use crate::report::page::curves::Evaluated;

const STYLE: &str = concat!(include_str!("figure.css"), include_str!("page.css"));
const SCRIPT: &str = include_str!("page.js");

/// All that a page tells.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    pub experiment: &'a Experiment,
    pub table: &'a AblationTable,
    /// What it was made by and of, a name and a text each: program, devices, time.
    pub facts: Vec<(String, String)>,
    /// What a reader must be warned of beyond the table's own warnings: results of other code, damage.
    pub warnings: Vec<String>,
    pub histories: &'a [RunHistory],
    /// Encoders kept on the way and the final ones, by the table's metric; empty without the former.
    pub evaluated: &'a [Evaluated],
    pub spent: &'a [Spent],
    pub maps: &'a [FeatureMap],
    pub sheets: &'a [Sheet],
    /// In the order of `Experiment::cells`.
    pub cells: &'a [CellDetails],
    pub downloads: &'a [Download],
    /// What to type to make it again, a line each.
    pub commands: Vec<String>,
}

/// A picture of images and their two views.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    pub title: String,
    pub png: Vec<u8>,
    /// Pixels.
    pub width: u32,
    pub height: u32,
}

/// A file within the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    pub file: String,
    pub media_type: &'static str,
    /// What is in it.
    pub title: String,
    pub bytes: Vec<u8>,
}

impl Download {
    fn link(&self) -> String {
        format!("data:{};base64,{}", self.media_type, STANDARD.encode(&self.bytes))
    }
}

impl Page<'_> {
    /// Every figure there is something to draw of, in the order of the page.
    pub fn figures(&self) -> Vec<Figure> {
        let grid = grid::Grid::of(self.table);
        let devices = self.cells.iter().flat_map(CellDetails::training_devices);
        let on_one_device = devices.collect::<std::collections::BTreeSet<_>>().len() < 2;
        let interval = format!("95 % intervals of the mean ({})", self.table.interval.words());
        let mut figures: Vec<Figure> = heat_map::figure(&grid).into_iter().collect();
        figures.push(intervals::figure(&grid, &interval));
        figures.extend(cost::figure(&grid, self.spent, on_one_device));
        figures.extend(curves::figures(&grid, self.histories));
        figures.extend(curves::evaluated(&grid, self.evaluated));
        figures.extend(feature_map::figure(self.maps));
        figures
    }

    /// The whole page, `figures` its own.
    pub fn render(&self, figures: &[Figure]) -> String {
        let grid = grid::Grid::of(self.table);
        let title = format!("{}: {}", self.experiment.name, self.experiment.question);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta http-equiv="Content-Security-Policy" content=(policy());
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    meta name="generator" content=(concat!("ablate ", env!("CARGO_PKG_VERSION")));
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    a.skip href="#results" { "To the results" }
                    (overview::header(self, &grid))
                    main {
                        (overview::results(self, &grid))
                        (self.figure_sections(figures))
                        (self.sheets_section())
                        (cells::section(self, &grid))
                        (self.data_section())
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        figure::without_controls(&page.into_string())
    }

    fn figure_sections(&self, figures: &[Figure]) -> Markup {
        let training: Vec<&Figure> = figures.iter().filter(|figure| curves::is_of_training(&figure.name)).collect();
        let of = |name: &str| figures.iter().find(|figure| figure.name == name);
        html! {
            section.figures #figures aria-labelledby="figures-title" {
                h2 #figures-title { "Figures" }
                @for name in ["heat-map", "means", "cost"] { @if let Some(figure) = of(name) { (figure.inline()) } }
            }
            @if !training.is_empty() {
                section.figures #training aria-labelledby="training-title" {
                    h2 #training-title { "Training" }
                    @for figure in training { (figure.inline()) }
                }
            }
            @if let Some(figure) = of("features") {
                section.figures #features aria-labelledby="features-title" {
                    h2 #features-title { "Features" }
                    (figure.inline())
                }
            }
        }
    }

    fn sheets_section(&self) -> Markup {
        html! {
            @if !self.sheets.is_empty() {
                section #views aria-labelledby="views-title" {
                    h2 #views-title { "Views" }
                    p.note {
                        "Images of the training part, each followed by the two random views that training sees in its "
                        "first epoch."
                    }
                    @for sheet in self.sheets {
                        figure.sheet {
                            div.scroll tabindex="0" role="region" aria-label=(sheet.title) {
                                img src=(format!("data:image/png;base64,{}", STANDARD.encode(&sheet.png)))
                                    width=(sheet.width) height=(sheet.height)
                                    alt=(format!("Contact sheet: {}", sheet.title));
                            }
                            figcaption { (sheet.title) }
                        }
                    }
                }
            }
        }
    }

    fn data_section(&self) -> Markup {
        html! {
            section #data aria-labelledby="data-title" {
                h2 #data-title { "Data and how to make this again" }
                ul.downloads {
                    @for download in self.downloads {
                        li {
                            a download=(download.file) href=(download.link()) { (download.file) }
                            span.note { (download.title) ", " (kilobytes(download.bytes.len())) }
                        }
                    }
                }
                p.note {
                    "Every step of every training is in " code { (self.experiment.name) ".history.parquet" }
                    ", which " code { "ablate sweep" } " leaves beside its other tables."
                }
                @if !self.commands.is_empty() {
                    p { "With the same program and the experiment's file:" }
                    pre.scroll tabindex="0" { code { (self.commands.join("\n")) } }
                }
                dl.facts {
                    @for (name, text) in &self.facts { div { dt { (name) } dd { (text) } } }
                }
            }
        }
    }
}

fn kilobytes(bytes: usize) -> String {
    if bytes < 1_000 { format!("{bytes} bytes") } else { format!("{} kB", bytes / 1_000) }
}

/// What the page's browser may load and run: what is in it.
fn policy() -> String {
    let digest = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; img-src data:; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        digest(STYLE),
        digest(SCRIPT)
    )
}

#[cfg(test)]
mod tests;
