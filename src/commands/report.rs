//! `ablate report FILE`: the experiment as one page for any browser, and its figures as files, from what is stored alone.

mod details;
mod evidence;
mod pictures;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use rayon::prelude::*;
use serde_json::json;

use crate::commands::arguments::ExperimentArguments;
use crate::commands::error::CommandError;
use crate::commands::look::LookArguments;
use crate::commands::paragraph::note;
use crate::commands::report::evidence::Evidence;
use crate::commands::table::ViewArguments;
use crate::commands::{Ending, count, gather, open, print_json, quoted};
use crate::experiment::{AxisLabel, Experiment};
use crate::report::atomic_file::write_atomically;
use crate::report::page::figure::Figure;
use crate::report::page::figure_files::Painter;
use crate::report::page::grid::Grid;
use crate::report::page::{Download, Page};
use crate::report::parquet;
use crate::report::render::Format;
use crate::report::table::AblationTable;

/// Larger tables are not put into the page: `ablate sweep` leaves them beside it.
const DOWNLOAD_BYTES_MAX: usize = 1_500_000;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub look: LookArguments,
    #[command(flatten)]
    pub view: ViewArguments,
    /// The page to write; its figures go to a folder beside it, `EXPERIMENT.figures` [default: RESULTS/EXPERIMENT.html]
    #[arg(long, short, value_name = "HTML")]
    pub output: Option<PathBuf>,
    /// Draw the features of this cell, numbered from 0 as `plan` shows them; may be given several times [default: the
    /// baseline and the cell with the highest mean]
    #[arg(long, value_name = "N")]
    pub map: Vec<usize>,
    /// Leave the images of the data set out, for a page that goes where they may not
    #[arg(long)]
    pub no_images: bool,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let experiments = arguments.look.experiments()?;
    let candidates: Vec<&Experiment> = experiments.iter().map(|(_, experiment)| experiment).collect();
    // Backends differ in runs and keys alone.
    let experiment = *candidates.first().expect("at least one backend takes the file");
    if let Some(cell) = arguments.map.iter().find(|cell| **cell >= experiment.cells.len()) {
        let cells = count(experiment.cells.len(), "cell");
        return Err(CommandError::Usage(format!("there is no cell `{cell}`: the file has {cells}, numbered from 0")));
    }
    let store = arguments.look.store()?;
    let evidence = Evidence::gather(store.as_ref(), &candidates)?;
    gather::tell_damage(&evidence.damage);
    arguments.look.code.tell(&evidence.census);
    let table = AblationTable::of(experiment, &evidence.rows, &arguments.view.view(experiment))?;
    let grid = Grid::of(&table);
    let histories = store.as_ref().map(|store| evidence.histories(store)).transpose()?.unwrap_or_default();
    let maps = match &store {
        Some(store) => evidence.maps(store, experiment, &grid, &arguments.map)?,
        None => Vec::new(),
    };
    let shown = store.as_ref().filter(|_| !arguments.no_images);
    let sheets = shown.map(|store| evidence.sheets(store, experiment)).transpose()?.unwrap_or_default();
    let cells = details::cells(experiment, &grid, &evidence);
    let page = Page {
        experiment,
        table: &table,
        facts: evidence.facts(),
        warnings: evidence.warnings(),
        histories: &histories,
        evaluated: &evidence.evaluated(&table.metric),
        spent: &evidence.spent(&table.metric),
        maps: &maps,
        sheets: &sheets,
        cells: &cells,
        downloads: &downloads(experiment, &table, &evidence)?,
        commands: commands(arguments),
    };
    let folder = open::results_folder(&arguments.look.experiment.places, experiment.smoke);
    let output = arguments.output.clone().unwrap_or_else(|| folder.join(format!("{}.html", experiment.name)));
    let written = write(&page, &output)?;
    tell(arguments, &written)?;
    Ok(Ending::Complete)
}

/// What was written.
struct Written {
    page: PathBuf,
    page_bytes: usize,
    figures: Vec<PathBuf>,
    has_pictures: bool,
}

/// The page, and beside it a folder with its figures.
fn write(page: &Page, output: &Path) -> Result<Written, CommandError> {
    let figures_folder = output.with_extension("figures");
    if figures_folder == output {
        let problem =
            format!("`{}` is where the figures go: expected the name of a page, `report.html`", output.display());
        return Err(CommandError::Usage(problem));
    }
    std::fs::create_dir_all(&figures_folder)
        .map_err(|source| CommandError::Write { path: figures_folder.clone(), source })?;
    let figures = page.figures();
    let painter = Painter::new();
    let drawn = |figure: &Figure| -> Result<Vec<PathBuf>, CommandError> {
        let svg = figures_folder.join(format!("{}.svg", figure.name));
        write_atomically(&svg, figure.standalone().as_bytes())?;
        let Some(bytes) = painter.as_ref().and_then(|painter| painter.png(figure)) else { return Ok(vec![svg]) };
        let png = figures_folder.join(format!("{}.png", figure.name));
        write_atomically(&png, &bytes)?;
        Ok(vec![svg, png])
    };
    let files: Vec<Vec<PathBuf>> = figures.par_iter().map(drawn).collect::<Result<_, CommandError>>()?;
    let html = page.render(&figures);
    write_atomically(output, html.as_bytes())?;
    Ok(Written {
        page: output.to_owned(),
        page_bytes: html.len(),
        figures: files.concat(),
        has_pictures: painter.is_some(),
    })
}

fn tell(arguments: &Arguments, written: &Written) -> Result<(), CommandError> {
    let Written { page, page_bytes, figures, has_pictures } = written;
    if arguments.json {
        return print_json(&json!({ "page": page, "bytes": page_bytes, "figures": figures }));
    }
    tell_line!(
        "wrote {} ({} kB) and {} beside it",
        page.display(),
        page_bytes / 1_000,
        count(figures.len(), "figure file")
    );
    if !has_pictures {
        note("no PNG was drawn, because this system has no fonts; the SVG files are complete");
    }
    Ok(())
}

/// The table and every number it rests on.
fn downloads(
    experiment: &Experiment,
    table: &AblationTable,
    evidence: &Evidence,
) -> Result<Vec<Download>, CommandError> {
    let name = &experiment.name;
    let json = serde_json::to_vec_pretty(&table.to_json()).expect("a JSON value can be written");
    let all = [
        Download {
            file: format!("{name}.csv"),
            media_type: "text/csv",
            title: "the table, a line a cell".to_owned(),
            bytes: table.render(Format::Csv).into_bytes(),
        },
        Download {
            file: format!("{name}.json"),
            media_type: "application/json",
            title: "the table with the value of every seed".to_owned(),
            bytes: json,
        },
        Download {
            file: format!("{name}.parquet"),
            media_type: "application/vnd.apache.parquet",
            title: "every metric of every run, with keys and provenance".to_owned(),
            bytes: parquet::to_parquet(&evidence.rows, &experiment.axes)?,
        },
    ];
    Ok(all.into_iter().filter(|download| download.bytes.len() <= DOWNLOAD_BYTES_MAX).collect())
}

/// What to type to have the results and this page again.
fn commands(arguments: &Arguments) -> Vec<String> {
    let ExperimentArguments { file, overrides, smoke, .. } = &arguments.look.experiment;
    let mut of_file = quoted(&file.to_string_lossy());
    for change in overrides {
        of_file.push_str(&format!(" {}", quoted(change)));
    }
    if *smoke {
        of_file.push_str(" --smoke");
    }
    let ViewArguments { metric, rows, columns, only, best, baseline, interval } = &arguments.view;
    let mut of_view = Vec::new();
    of_view.extend(metric.iter().map(|metric| format!("--metric {}", quoted(metric))));
    of_view.extend(rows.iter().map(|paths| format!("--rows {}", quoted(&paths.join(",")))));
    of_view.extend(columns.iter().map(|paths| format!("--columns {}", quoted(&paths.join(",")))));
    let label = |wanted: &AxisLabel| quoted(&format!("{}={}", wanted.path, wanted.label));
    of_view.extend(only.iter().map(|wanted| format!("--where {}", label(wanted))));
    of_view.extend(best.iter().map(|n| format!("--best {n}")));
    of_view.extend(baseline.iter().map(|wanted| format!("--baseline {}", label(wanted))));
    let named = interval.and_then(|choice| choice.to_possible_value());
    of_view.extend(named.map(|value| format!("--interval {}", value.get_name())));
    of_view.extend(arguments.no_images.then(|| "--no-images".to_owned()));
    let report = [vec![format!("ablate report {of_file}")], of_view].concat().join(" ");
    vec![format!("ablate sweep {of_file}"), report, format!("ablate verify {of_file} --fraction 10%")]
}
