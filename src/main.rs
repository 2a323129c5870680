//! Parse the command line, run, print the error, choose the exit code.

use std::process::ExitCode;

use ablate::cli::{Arguments, Command};
use ablate::commands::{
    self, bench, check, diff, doctor, explain, gc, pin, plan, run, show, show_views, status, sweep, table, verify,
    watch,
};
use clap::Parser;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Sweep(arguments) => sweep::execute(&arguments),
        Command::Run(arguments) => run::execute(&arguments),
        Command::Plan(arguments) => plan::execute(&arguments),
        Command::Explain(arguments) => explain::execute(&arguments),
        Command::Diff(arguments) => diff::execute(&arguments),
        Command::Status(arguments) => status::execute(&arguments),
        Command::Watch(arguments) => watch::execute(&arguments),
        Command::Table(arguments) => table::execute(&arguments),
        Command::Show(arguments) => show::execute(&arguments),
        Command::Check(arguments) => check::execute(&arguments),
        Command::Pin(arguments) => pin::execute(&arguments),
        Command::Gc(arguments) => gc::execute(&arguments),
        Command::Verify(arguments) => verify::execute(&arguments),
        Command::Bench(arguments) => bench::execute(&arguments),
        Command::ShowViews(arguments) => show_views::execute(&arguments),
        Command::Doctor(arguments) => doctor::execute(&arguments),
    };
    commands::conclude(result)
}
