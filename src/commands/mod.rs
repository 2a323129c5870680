//! One subcommand a file; owns all printing. Data goes to stdout, messages and progress to stderr.

/// Words on stderr, as `eprint!` takes them. A reader that went away ends no computation.
macro_rules! tell {
    ($($text:tt)*) => { $crate::commands::stderr::write(format_args!($($text)*)) };
}

/// As `tell!`, a line of its own.
macro_rules! tell_line {
    ($($text:tt)*) => { $crate::commands::stderr::write(format_args!("{}\n", format_args!($($text)*))) };
}

pub mod arguments;
pub mod bench;
pub mod check;
pub mod code;
pub mod diff;
pub mod doctor;
pub mod error;
pub mod explain;
mod failures;
mod gather;
pub mod gc;
mod in_work;
mod interruption;
mod live;
pub mod look;
mod lookup;
pub mod open;
mod paragraph;
pub mod pin;
pub mod plan;
mod plan_lock;
pub mod progress;
pub mod report;
pub mod run;
pub mod show;
pub mod show_views;
pub mod status;
mod stderr;
mod survey;
pub mod sweep;
pub mod table;
pub mod verify;
pub mod watch;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use crate::commands::error::CommandError;

/// How a command that worked ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Complete,
    /// Some runs failed, or are missing where a command was asked to say so.
    Incomplete,
    /// Another process computes what was asked for.
    Taken,
    /// What was computed again came out otherwise.
    Diverged,
    Interrupted,
    /// Asked to leave by the system.
    Preempted,
}

/// Prints what is left to say and chooses the exit code.
pub fn conclude(result: Result<Ending, CommandError>) -> ExitCode {
    let code = match result {
        Ok(Ending::Complete) => 0,
        Ok(Ending::Incomplete) => 3,
        Ok(Ending::Taken) => 5,
        Ok(Ending::Diverged) => 6,
        Ok(Ending::Interrupted) => 130,
        Ok(Ending::Preempted) => 143,
        Err(error) => {
            // A reader that went away, `head` for one, wants no complaint.
            if !error.is_broken_pipe() {
                tell!("{}", error.render(std::io::stderr().is_terminal() && colors_wanted()));
            }
            error.exit_code()
        }
    };
    ExitCode::from(code)
}

/// The conventions of no-color.org and of dumb terminals.
fn colors_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes data to stdout; a closed pipe is an error to end quietly with.
pub fn print(text: &str) -> Result<(), CommandError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

pub fn print_json(value: &serde_json::Value) -> Result<(), CommandError> {
    print(&serde_json::to_string_pretty(value).expect("a JSON value can be written"))
}

/// `1 run`, `2 runs`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// A word as a shell wants it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._-/=+:,%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        for (word, expected) in [
            ("a/b.ron", "a/b.ron"),
            ("train.batch=8", "train.batch=8"),
            ("train.batch=64", "train.batch=64"),
            ("seeds=[0]", "'seeds=[0]'"),
            ("seeds=[0, 1]", "'seeds=[0, 1]'"),
            ("it's", r"'it'\''s'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }
}
