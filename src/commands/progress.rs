//! What a sweep shows while it runs: on a terminal a line a run and one for all, elsewhere a line an event.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::count;
use crate::experiment::Experiment;
use crate::record::Failure;
use crate::runner::{Audience, Event, Place};
use crate::train::Progress;

/// Off a terminal a training says where it is at most this often.
const QUIET_INTERVAL: Duration = Duration::from_secs(30);

/// The audience of a sweep.
pub struct Display {
    names: BTreeMap<Place, String>,
    mode: Mode,
    interrupt: Arc<AtomicBool>,
    said_stopping: bool,
}

enum Mode {
    Silent,
    Lines { last: Instant, done: usize, n_runs: usize },
    Bars(Bars),
}

struct Bars {
    multi: MultiProgress,
    all: ProgressBar,
    current: Option<ProgressBar>,
    cached: usize,
    failed: usize,
    work: Work,
}

/// What an estimate of the time left rests on: steps, since runs differ in length.
struct Work {
    /// Steps of every run that has not ended.
    left: BTreeMap<Place, u64>,
    trained_steps: u64,
    trained_s: f64,
    /// Of the run under way.
    started: Option<(Instant, u64)>,
}

impl Display {
    pub fn new(experiment: &Experiment, quiet: bool, interrupt: Arc<AtomicBool>) -> Display {
        let names = names(experiment);
        let mode = if quiet {
            Mode::Silent
        } else if std::io::stderr().is_terminal() {
            Mode::Bars(Bars::new(experiment, names.len()))
        } else {
            let n_runs = names.len();
            eprintln!("{}: {}", experiment.name, count(n_runs, "run"));
            Mode::Lines { last: Instant::now(), done: 0, n_runs }
        };
        Display { names, mode, interrupt, said_stopping: false }
    }

    /// Clears what moves.
    pub fn finish(mut self) {
        if let Mode::Bars(bars) = &mut self.mode {
            bars.current.iter().for_each(ProgressBar::finish_and_clear);
            bars.all.finish_and_clear();
            let _ = bars.multi.clear();
        }
    }

    fn say_stopping(&mut self) {
        const TEXT: &str = "stopping after this step; again to leave at once";
        self.said_stopping = true;
        match &self.mode {
            Mode::Silent => {}
            Mode::Lines { .. } => eprintln!("{TEXT}"),
            Mode::Bars(bars) => drop(bars.multi.println(TEXT)),
        }
    }
}

impl Work {
    fn new(experiment: &Experiment) -> Work {
        let cells = experiment.cells.iter().enumerate();
        let runs =
            cells.flat_map(|(cell, runs)| runs.runs.iter().map(move |run| (Place { cell, seed: run.seed }, run)));
        let left = runs.map(|(place, run)| (place, run.train.length_steps)).collect();
        Work { left, trained_steps: 0, trained_s: 0.0, started: None }
    }

    fn step(&mut self, place: Place, progress: &Progress) {
        let (began, first) = *self.started.get_or_insert((Instant::now(), progress.step));
        if progress.step > first {
            self.trained_steps += 1;
            self.trained_s += began.elapsed().as_secs_f64();
            self.started = Some((Instant::now(), progress.step));
        }
        self.left.insert(place, progress.length_steps - progress.step);
    }

    fn end(&mut self, place: Place) {
        self.started = None;
        self.left.remove(&place);
    }

    /// Nothing until a few steps have told how long one takes.
    fn text(&self) -> String {
        if self.trained_steps < 3 {
            return String::new();
        }
        let left: u64 = self.left.values().sum();
        let seconds = self.trained_s / self.trained_steps as f64 * left as f64;
        format!(", about {} of training left", HumanDuration(Duration::from_secs_f64(seconds)))
    }
}

/// What a run is called: the labels that tell its cell from the others, and its seed.
fn names(experiment: &Experiment) -> BTreeMap<Place, String> {
    let mut names = BTreeMap::new();
    for (index, cell) in experiment.cells.iter().enumerate() {
        for run in &cell.runs {
            let labels = experiment.axes.iter().zip(&cell.labels).map(|(axis, label)| {
                let short = axis.path.rsplit('.').next().unwrap_or(&axis.path);
                format!("{short} {label}")
            });
            let parts: Vec<String> = labels.chain([format!("seed {}", run.seed)]).collect();
            names.insert(Place { cell: index, seed: run.seed }, parts.join(", "));
        }
    }
    names
}

impl Bars {
    fn new(experiment: &Experiment, n_runs: usize) -> Bars {
        let multi = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let all = multi.add(ProgressBar::new(n_runs as u64));
        all.set_style(ProgressStyle::with_template("{bar:16} {pos}/{len} runs{wide_msg}").expect("a fixed template"));
        all.enable_steady_tick(Duration::from_millis(500));
        Bars { multi, all, current: None, cached: 0, failed: 0, work: Work::new(experiment) }
    }

    /// The line of the run under way; `what` stands in place of its numbers.
    fn say(&mut self, name: &str, what: String) {
        let bar = self.current.get_or_insert_with(|| {
            let bar = self.multi.insert_before(&self.all, ProgressBar::new(1));
            bar.set_style(ProgressStyle::with_template("{bar:16} {wide_msg}").expect("a fixed template"));
            bar
        });
        bar.set_message(format!("{what}  {name}"));
    }

    fn training(&mut self, place: Place, name: &str, progress: &Progress) {
        self.work.step(place, progress);
        self.say(name, training_text(progress));
        if let Some(bar) = &self.current {
            bar.set_length(progress.length_steps);
            bar.set_position(progress.step);
        }
        self.count();
    }

    fn end(&mut self, place: Place, cached: bool, failed: bool) {
        if let Some(bar) = self.current.take() {
            bar.finish_and_clear();
        }
        self.cached += usize::from(cached);
        self.failed += usize::from(failed);
        self.work.end(place);
        self.all.inc(1);
        self.count();
    }

    fn count(&self) {
        let part = |n: usize, word: &str| if n == 0 { String::new() } else { format!(", {n} {word}") };
        let (cached, failed) = (part(self.cached, "from the store"), part(self.failed, "failed"));
        self.all.set_message(format!("{cached}{failed}{}", self.work.text()));
    }
}

fn training_text(progress: &Progress) -> String {
    let Progress { step, length_steps, loss, images_per_s } = progress;
    format!("{step}/{length_steps}  loss {loss:.3}  {images_per_s:.0} images/s")
}

fn failure_text(name: &str, failure: &Failure) -> String {
    format!("failed: {name}: {}", failure.message)
}

impl Audience for Display {
    fn tell(&mut self, place: Place, event: &Event) {
        if !self.said_stopping && self.interrupt.load(Ordering::Relaxed) {
            self.say_stopping();
        }
        let name = self.names.get(&place).map_or("", String::as_str);
        match &mut self.mode {
            Mode::Silent => {}
            Mode::Bars(bars) => show_bar(bars, place, name, event),
            Mode::Lines { last, done, n_runs } => show_line((last, done, *n_runs), name, event),
        }
    }
}

fn show_bar(bars: &mut Bars, place: Place, name: &str, event: &Event) {
    match event {
        Event::Cached => bars.end(place, true, false),
        Event::TrainingStarted { resumed } => {
            bars.say(name, if *resumed { "goes on from its checkpoint" } else { "starts" }.to_owned());
        }
        Event::Training(progress) => bars.training(place, name, progress),
        Event::EvaluationStarted { name: evaluation } => bars.say(name, format!("evaluates {evaluation}")),
        Event::Finished => bars.end(place, false, false),
        Event::Failed(failure) => {
            let _ = bars.multi.println(failure_text(name, failure));
            bars.end(place, false, true);
        }
        Event::Taken { owner } => {
            let _ = bars.multi.println(format!("in work elsewhere: {name} ({owner})"));
            bars.end(place, false, false);
        }
        Event::Note(text) => {
            let _ = bars.multi.println(format!("note: {name}: {text}"));
        }
    }
}

fn show_line((last, done, n_runs): (&mut Instant, &mut usize, usize), name: &str, event: &Event) {
    let mut ended = |word: &str| {
        *done += 1;
        eprintln!("[{done}/{n_runs}] {word}: {name}");
    };
    match event {
        Event::Cached => *done += 1,
        Event::TrainingStarted { resumed: true } => eprintln!("goes on from its checkpoint: {name}"),
        Event::TrainingStarted { resumed: false } => {}
        Event::Training(progress) => {
            if last.elapsed() >= QUIET_INTERVAL {
                *last = Instant::now();
                eprintln!("{name}: {}", training_text(progress));
            }
        }
        Event::EvaluationStarted { .. } => {}
        Event::Finished => ended("computed"),
        Event::Failed(failure) => {
            *done += 1;
            eprintln!("[{done}/{n_runs}] {}", failure_text(name, failure));
        }
        Event::Taken { owner } => ended(&format!("in work elsewhere ({owner})")),
        Event::Note(text) => eprintln!("note: {name}: {text}"),
    }
}
