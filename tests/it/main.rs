//! One test binary.

mod command_line;
mod compile_fail;
mod evaluations;
mod explanations;
mod golden;

mod harness;
mod hostile;
mod kernels;
#[cfg(unix)]
mod kill;
mod losses;
mod measurements;
mod miniature;
mod paper;
mod presets;
#[cfg(unix)]
mod processes;
mod report;
mod resume;
mod signals;
mod snapshots;
mod store_commands;
mod supervised;

mod tidy;
mod verify;
#[cfg(unix)]
mod watch;
