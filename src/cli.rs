//! The command line as typed.

use clap::{Parser, Subcommand};

use crate::commands::{
    bench, check, diff, doctor, explain, gc, pin, plan, run, show, show_views, status, sweep, table, verify, watch,
};

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
3 some runs failed; 4 the store is damaged; 5 another process holds what was asked for; 6 `verify` found a divergence; \
130 interrupted (Ctrl-C), 143 asked to leave (SIGTERM, SIGUSR1, SIGHUP): run again to go on.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compute what is missing of an experiment, then print its table
    Sweep(sweep::Arguments),
    /// Compute the file's base recipe alone, without its sweep, with its first seed
    Run(run::Arguments),
    /// Say for every run whether it is stored, and what a sweep would compute
    Plan(plan::Arguments),
    /// Say why each run is stored or not, field by field; takes a key in place of FILE as well
    Explain(explain::Arguments),
    /// Compare two stored stages: settings, metrics, blobs and where they came from
    Diff(diff::Arguments),
    /// Count what is stored, missing and failed
    Status(status::Arguments),
    /// Look on while sweeps fill an experiment: the grid, losses, speed, failures
    Watch(watch::Arguments),
    /// Print the ablation table from what is stored
    Table(table::Arguments),
    /// Print a stored record and the meaning its key was made of
    Show(show::Arguments),
    /// Look whether every file of the store is what it should be
    Check(check::Arguments),
    /// Keep results whole, whatever `gc` is told, or list what is kept
    Pin(pin::Arguments),
    /// Show what could go from the store, and remove it when told to
    Gc(gc::Arguments),
    /// Compute some of what is stored again and compare: bits on the same kind of machine, metrics elsewhere
    Verify(verify::Arguments),
    /// Measure speed and parity on this machine
    Bench(bench::Arguments),
    /// Write a picture of images and their two views
    ShowViews(show_views::Arguments),
    /// Say what this machine can compute on, and how to get what is missing
    Doctor(doctor::Arguments),
}
