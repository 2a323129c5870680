//! The command line as typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{plan, run, show, show_views, status, sweep, table};

/// A declarative, reproducible runner for SimCLR ablations.
///
/// Write a question as a RON file; `ablate sweep FILE` finds every run by the hash of all that can change it, computes
/// what is missing and prints the ablation table.
#[derive(Debug, Parser)]
#[command(name = "ablate", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 everything is there; 1 internal error; 2 wrong usage or experiment file, nothing ran; \
3 some runs failed; 4 the store is damaged; 5 another process holds what was asked for; 130 interrupted, run again to go on.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compute what is missing of an experiment, then print its table
    Sweep(sweep::Arguments),
    /// Compute the file's base recipe alone, without its sweep, with its first seed
    Run(run::Arguments),
    /// Say for every run whether it is stored, and what a sweep would compute
    Plan(plan::Arguments),
    /// Count what is stored, missing and failed
    Status(status::Arguments),
    /// Print the ablation table from what is stored
    Table(table::Arguments),
    /// Print a stored record and the meaning its key was made of
    Show(show::Arguments),
    /// Write a picture of images and their two views
    ShowViews(show_views::Arguments),
}

/// The experiment and what to change in it.
#[derive(Debug, Clone, Args)]
pub struct ExperimentArguments {
    /// The experiment file (RON)
    pub file: PathBuf,
    /// Replaces a part of the file: `train.batch=512`, `seeds=[0]`, `evaluate[0].k=20`
    #[arg(value_name = "PATH=VALUE")]
    pub overrides: Vec<String>,
    /// Shrink to seconds on a CPU: built-in data, batches over 16, four steps, two seeds; kept apart under results/smoke/
    #[arg(long)]
    pub smoke: bool,
    /// Where the data set lies, instead of the file's root
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub places: PlaceArguments,
}

/// Where results go.
#[derive(Debug, Clone, Args)]
pub struct PlaceArguments {
    /// Where the Parquet tables go
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Where records and checkpoints go [default: RESULTS/store]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// What computes.
#[derive(Debug, Clone, Args)]
pub struct DeviceArguments {
    /// What computes: the best device present, this processor, or dfdx's own tape (slow, obviously right)
    #[arg(long, value_enum, default_value_t = DeviceChoice::Auto)]
    pub device: DeviceChoice,
    /// Worker threads; never changes a result [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DeviceChoice {
    Auto,
    Cpu,
    Cuda,
    Reference,
}

/// How to answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArguments {
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr
    #[arg(long, short)]
    pub quiet: bool,
}
