//! Signals while a sweep computes: leave gently, leave at once, never lose what is kept.
//!
//! The first Ctrl-C has every run stop at its next step; what does not stop within two seconds is left where it stands.
//! The first SIGTERM, SIGUSR1 or SIGHUP, as batch systems send them before they kill, has every training keep a checkpoint
//! first, however long that takes. Any second signal leaves at once. The claims are given back on every way out, and the
//! store is whole on every way out, since it is whole at every moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::commands::paragraph::note;
use crate::device;
use crate::runner::{Departure, Interrupt};
use crate::store;

/// How long what is under way may take to notice that it is to stop.
const PATIENCE: Duration = Duration::from_secs(2);

/// Signals this close together are one: `timeout`, for one, sends its signal to the process and to its group.
const SAME_SIGNAL: Duration = Duration::from_millis(200);

const GLANCE: Duration = Duration::from_millis(20);

/// Watches for signals on a thread of its own.
pub struct Watch {
    work_ended: Arc<AtomicBool>,
}

impl Watch {
    /// From now on signals ask `interrupt`. Those that are ignored stay ignored: `nohup` means what it says.
    pub fn begin(interrupt: &Arc<Interrupt>) -> Watch {
        let work_ended = Arc::new(AtomicBool::new(false));
        let ignored = ignored_signals();
        let caught = [SIGINT, SIGTERM, SIGHUP, SIGUSR1].into_iter().filter(|signal| ignored >> (signal - 1) & 1 == 0);
        match Signals::new(caught) {
            Ok(signals) => {
                let (interrupt, work_ended) = (Arc::clone(interrupt), Arc::clone(&work_ended));
                let named = std::thread::Builder::new().name("signals".to_owned());
                named.spawn(move || answer(signals, &interrupt, &work_ended)).expect("the system starts a thread");
            }
            Err(error) => note(&format!(
                "no signal can be caught here ({error}); an interruption loses the steps since the last checkpoint"
            )),
        }
        Watch { work_ended }
    }

    /// What is left to do, printing for one, takes no time: only another signal cuts it short.
    pub fn work_ended(&self) {
        self.work_ended.store(true, Ordering::Relaxed);
    }
}

/// The signals this process was started to ignore, a bit each (proc(5)); none where the system does not tell.
fn ignored_signals() -> u64 {
    device::process_status("SigIgn").and_then(|mask| u64::from_str_radix(&mask, 16).ok()).unwrap_or(0)
}

fn departure(signal: i32) -> Departure {
    if signal == SIGINT { Departure::Interrupted } else { Departure::Preempted }
}

fn answer(mut signals: Signals, interrupt: &Interrupt, work_ended: &AtomicBool) {
    let Some(first) = signals.forever().next() else { return };
    let first = departure(first);
    interrupt.ask(first);
    let asked = Instant::now();
    // Since when there is nothing that is worth waiting for.
    let mut idle_since = asked;
    loop {
        std::thread::sleep(GLANCE);
        let again = signals.pending().last();
        if let Some(again) = again.filter(|_| asked.elapsed() > SAME_SIGNAL) {
            leave(departure(again), "left at once");
        }
        // A training that is to keep a checkpoint is waited for; an evaluation or a data set being read keeps nothing.
        let is_waited_for = first == Departure::Preempted && interrupt.is_training();
        if is_waited_for || work_ended.load(Ordering::Relaxed) {
            idle_since = Instant::now();
        }
        if idle_since.elapsed() > PATIENCE {
            leave(first, "left in the middle of what was under way");
        }
    }
}

/// Ends the process here and now.
fn leave(departure: Departure, how: &str) -> ! {
    store::give_back_all();
    tell_line!("\n{how}; all results and the last checkpoints are kept, the same command goes on from there");
    signal_hook::low_level::exit(code(departure))
}

/// What a process that left so exits with.
pub fn code(departure: Departure) -> i32 {
    match departure {
        Departure::Interrupted => 130,
        Departure::Preempted => 143,
    }
}
