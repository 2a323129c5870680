//! Which process wrote a file, and whether it still lives.

use std::fs;
use std::sync::OnceLock;

use rustix::process::{Pid, test_kill_process};
use rustix::system::uname;

/// A process as other processes can recognise it, across hosts and reuse of its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub host: String,
    pub pid: u32,
    /// When it started, in the kernel's clock ticks since boot; 0 where the system does not tell.
    pub start_ticks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Liveness {
    Alive,
    Dead,
    /// On another host, where only the age of its files tells.
    Elsewhere,
}

impl Process {
    pub fn current() -> &'static Process {
        static CURRENT: OnceLock<Process> = OnceLock::new();
        CURRENT.get_or_init(|| {
            let pid = std::process::id();
            Process { host: host(), pid, start_ticks: status(pid).map_or(0, |status| status.start_ticks) }
        })
    }

    pub fn liveness(&self) -> Liveness {
        if self.host != Process::current().host {
            return Liveness::Elsewhere;
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Liveness::Dead };
        if test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            return Liveness::Dead;
        }
        match status(self.pid) {
            Some(Status { is_zombie: true, .. }) => Liveness::Dead,
            Some(status) if self.start_ticks != 0 && status.start_ticks != self.start_ticks => Liveness::Dead,
            Some(_) | None => Liveness::Alive,
        }
    }
}

/// The host's name, spelled so that it can stand in a file name and in a line of text.
fn host() -> String {
    let sound = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '.' { c } else { '_' };
    let name: String = uname().nodename().to_string_lossy().chars().take(64).map(sound).collect();
    if name.is_empty() { "_".to_owned() } else { name }
}

struct Status {
    /// Ended, but not yet collected by its parent.
    is_zombie: bool,
    start_ticks: u64,
}

/// Fields 3 and 22 of `/proc/<pid>/stat` (proc(5)); field 2 is a name in parentheses that may hold anything.
fn status(pid: u32) -> Option<Status> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_zombie = matches!(fields.next()?, "Z" | "X");
    Some(Status { is_zombie, start_ticks: fields.nth(18)?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn liveness_tells_processes_apart() {
        let here = Process::current().clone();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = Process { pid: child.id(), start_ticks: 1, ..here.clone() };
        child.wait().unwrap();
        let reused = Process { start_ticks: here.start_ticks + 1, ..here.clone() };
        let unborn = Process { pid: 0, ..here.clone() };
        let away = Process { host: format!("{}x", here.host), ..here.clone() };
        let check = |process: &Process, expected| assert_eq!(process.liveness(), expected, "{process:?}");
        check(&here, Liveness::Alive);
        check(&dead, Liveness::Dead);
        check(&unborn, Liveness::Dead);
        check(&away, Liveness::Elsewhere);
        if here.start_ticks != 0 {
            check(&reused, Liveness::Dead);
        }
    }

    #[test]
    fn a_process_that_ended_is_dead_before_it_is_collected() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let ended = Process { pid: child.id(), start_ticks: 0, ..Process::current().clone() };
        let seen = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(2));
            ended.liveness() == Liveness::Dead
        });
        child.wait().unwrap();
        assert!(seen || Process::current().start_ticks == 0);
    }
}
