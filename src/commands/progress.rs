//! What a sweep shows while it runs: on a terminal a line a run and one for all, elsewhere a line an event.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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
    failures: Vec<String>,
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
}

impl Display {
    pub fn new(experiment: &Experiment, quiet: bool) -> Display {
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
        Display { names, mode, failures: Vec::new() }
    }

    /// Clears what moves and repeats the failures where they are read last.
    pub fn finish(self) {
        if let Mode::Bars(bars) = &self.mode {
            bars.all.finish_and_clear();
        }
        if matches!(self.mode, Mode::Bars(_)) {
            self.failures.iter().for_each(|line| eprintln!("{line}"));
        }
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
        let style = ProgressStyle::with_template("{prefix}  {bar:20} {pos}/{len} runs{msg}  {eta} left");
        all.set_style(style.expect("a fixed template"));
        all.set_prefix(experiment.name.clone());
        all.enable_steady_tick(Duration::from_millis(500));
        Bars { multi, all, current: None, cached: 0, failed: 0 }
    }

    fn start(&mut self, name: &str, what: &str) {
        let bar = self.multi.insert_before(&self.all, ProgressBar::new(0));
        bar.set_style(ProgressStyle::with_template("  {prefix}  {bar:16} {msg}").expect("a fixed template"));
        bar.set_prefix(name.to_owned());
        bar.set_message(what.to_owned());
        self.current = Some(bar);
    }

    fn training(&mut self, name: &str, progress: &Progress) {
        if self.current.is_none() {
            self.start(name, "");
        }
        let bar = self.current.as_ref().expect("started above");
        bar.set_length(progress.length_steps);
        bar.set_position(progress.step);
        bar.set_message(training_text(progress));
    }

    fn end(&mut self, cached: bool, failed: bool) {
        if let Some(bar) = self.current.take() {
            bar.finish_and_clear();
        }
        self.cached += usize::from(cached);
        self.failed += usize::from(failed);
        let part = |n: usize, word: &str| if n == 0 { String::new() } else { format!(", {n} {word}") };
        self.all.set_message(format!("{}{}", part(self.cached, "cached"), part(self.failed, "failed")));
        self.all.inc(1);
        if cached {
            // A cached run takes no time: the estimate is about the others.
            self.all.reset_eta();
        }
    }
}

fn training_text(progress: &Progress) -> String {
    let Progress { step, length_steps, loss, images_per_s } = progress;
    format!("step {step}/{length_steps}  loss {loss:.3}  {images_per_s:.0} images/s")
}

fn failure_text(name: &str, failure: &Failure) -> String {
    format!("failed: {name}: {}", failure.message)
}

impl Audience for Display {
    fn tell(&mut self, place: Place, event: &Event) {
        let name = self.names.get(&place).map_or("", String::as_str);
        if let Event::Failed(failure) = event {
            self.failures.push(failure_text(name, failure));
        }
        match &mut self.mode {
            Mode::Silent => {}
            Mode::Bars(bars) => show_bar(bars, name, event),
            Mode::Lines { last, done, n_runs } => show_line((last, done, *n_runs), name, event),
        }
    }
}

fn show_bar(bars: &mut Bars, name: &str, event: &Event) {
    match event {
        Event::Cached => bars.end(true, false),
        Event::TrainingStarted { resumed } => {
            bars.start(name, if *resumed { "goes on from its checkpoint" } else { "starts" });
        }
        Event::Training(progress) => bars.training(name, progress),
        Event::EvaluationStarted { name: evaluation } => {
            if bars.current.is_none() {
                bars.start(name, "");
            }
            if let Some(bar) = &bars.current {
                bar.set_message(format!("evaluates {evaluation}"));
            }
        }
        Event::Finished => bars.end(false, false),
        Event::Failed(failure) => {
            let _ = bars.multi.println(failure_text(name, failure));
            bars.end(false, true);
        }
        Event::Taken { owner } => {
            let _ = bars.multi.println(format!("in work elsewhere: {name} ({owner})"));
            bars.end(false, false);
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
