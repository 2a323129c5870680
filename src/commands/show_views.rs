//! `ablate show-views FILE`: a picture of images and their two views, as training sees them.

use std::path::PathBuf;

use clap::Args;

use crate::commands::arguments::ExperimentArguments;
use crate::commands::error::CommandError;
use crate::commands::open::Reading;
use crate::commands::{Ending, open, print_json};
use crate::data;
use crate::experiment::recipe::Backend;
use crate::views::{self, Pipeline};

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub experiment: ExperimentArguments,
    /// The picture to write
    #[arg(long, short, value_name = "PNG", default_value = "views.png")]
    pub output: PathBuf,
    /// Images to show
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub images: u16,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    // Views are the same on every backend, so numerics that only another one has are no reason to refuse.
    let read = |backend| open::experiment(&arguments.experiment, backend, Reading::ComputeBase);
    let experiment = read(Backend::Cpu).or_else(|error| read(Backend::Cuda).map_err(|_| error))?;
    let run = &experiment.cells[0].runs[0];
    let dataset = data::load(&run.dataset, run.split)?;
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let n = usize::from(arguments.images).min(dataset.train.images.len());
    let png = views::contact_sheet(&pipeline, &dataset.train.images, n)
        .map_err(|error| CommandError::Picture(error.to_string()))?;
    std::fs::write(&arguments.output, png)
        .map_err(|source| CommandError::Write { path: arguments.output.clone(), source })?;
    if arguments.json {
        print_json(&serde_json::json!({ "picture": arguments.output, "images": n }))?;
    } else {
        tell_line!("wrote {}: {n} images, each with its first and second view", arguments.output.display());
    }
    Ok(Ending::Complete)
}
