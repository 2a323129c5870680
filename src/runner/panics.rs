//! A panic inside a run: caught, with its place and, where `RUST_BACKTRACE` asks for it, where it came from.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{Mutex, Once, PoisonError};

use crate::record::{Failure, FailureKind};

/// Lines of a backtrace that are kept.
const BACKTRACE_LINES: usize = 24;

/// Panics of worker threads whose run has not asked for them yet.
const REPORTS_MAX: usize = 64;

/// The names of [`crate::device::Pool`]'s threads begin so: what panics there reaches the thread that waits for it.
const WORKER_PREFIX: &str = "ablate-";

/// What the hook saw.
struct Report {
    message: String,
    place: Option<String>,
    backtrace: Vec<String>,
}

static REPORTS: Mutex<VecDeque<Report>> = Mutex::new(VecDeque::new());

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// A panic that a run ended with.
#[derive(Debug, PartialEq)]
pub struct Panicked {
    pub failure: Failure,
    /// File, line and column.
    pub place: Option<String>,
    pub backtrace: Vec<String>,
}

/// From now on a panic inside a run is written down instead of printed; any other is printed as before.
pub fn write_down() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_worker = std::thread::current().name().is_some_and(|name| name.starts_with(WORKER_PREFIX));
            if is_worker || CATCHING.get() {
                keep(info);
            } else {
                before(info);
            }
        }));
    });
}

fn keep(info: &PanicHookInfo<'_>) {
    let mut reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    if reports.len() == REPORTS_MAX {
        reports.pop_front();
    }
    let place = info.location().map(ToString::to_string);
    reports.push_back(Report { message: message(info.payload()), place, backtrace: backtrace() });
}

/// The frames between the panic's own and the thread's, where they were asked for.
fn backtrace() -> Vec<String> {
    let backtrace = Backtrace::capture();
    if backtrace.status() != BacktraceStatus::Captured {
        return Vec::new();
    }
    let text = backtrace.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let own = lines.iter().rposition(|line| line.contains("core::panicking::")).map_or(0, |last| last + 1);
    lines[own..].iter().take(BACKTRACE_LINES).map(|line| line.trim_end().to_owned()).collect()
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "a panic without words".to_owned())
}

/// Runs `work`; a panic in it, or in a worker thread it waits for, is an error.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    let before = CATCHING.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    outcome.map_err(|payload| {
        let message = message(payload.as_ref());
        let mut reports = REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
        let report = reports.iter().rposition(|report| report.message == message);
        let report = report.and_then(|index| reports.remove(index));
        let (place, backtrace) = report.map_or((None, Vec::new()), |report| (report.place, report.backtrace));
        Panicked { failure: Failure::new(FailureKind::Panic, message), place, backtrace }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Pool;

    #[test]
    fn a_panic_is_caught_with_its_place_here_and_in_a_worker() {
        write_down();
        let pool = Pool::new(1);
        let here = caught(|| -> u32 { panic!("no weights {}", 3) });
        let worker = caught(|| pool.install(|| -> u32 { panic!("no views") }));
        for (found, words) in [(here, "no weights 3"), (worker, "no views")] {
            let panic = found.expect_err("a panic");
            assert_eq!(panic.failure, Failure::new(FailureKind::Panic, words));
            assert!(panic.place.as_deref().is_some_and(|place| place.contains("panics.rs:")), "{panic:?}");
        }
        assert_eq!(caught(|| 3), Ok(3));
        assert!(!CATCHING.get());
    }
}
