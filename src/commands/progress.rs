//! What a sweep shows while it runs: on a terminal a line a run and one for all, elsewhere a line an event.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::count;
use crate::experiment::Experiment;
use crate::runner::{Audience, Departure, Event, Interrupt, Outcome, Place, StageFailure};
use crate::train::Progress;

/// Off a terminal a training says where it is this often.
const QUIET_INTERVAL: Duration = Duration::from_secs(30);

/// Runs under way that get a line of a terminal each; it must hold them all.
const LINES_MAX: usize = 16;

/// The audience of a sweep.
pub struct Display {
    names: BTreeMap<Place, String>,
    mode: Mode,
    interrupt: Arc<Interrupt>,
    said_stopping: bool,
    /// Whom the sweep waits for, as far as that was said.
    waited_for: BTreeSet<String>,
}

enum Mode {
    Silent,
    Lines(Lines),
    Bars(Bars),
}

struct Lines {
    /// When a training last said where it is, or began.
    last: BTreeMap<Place, Instant>,
    done: usize,
    n_runs: usize,
}

struct Bars {
    multi: MultiProgress,
    all: ProgressBar,
    /// Of the runs under way.
    current: BTreeMap<Place, ProgressBar>,
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
    /// When a training under way last told of a step, and which.
    last: BTreeMap<Place, (Instant, u64)>,
}

impl Display {
    pub fn new(experiment: &Experiment, quiet: bool, interrupt: Arc<Interrupt>) -> Display {
        let names = names(experiment);
        let mode = if quiet {
            Mode::Silent
        } else if std::io::stderr().is_terminal() {
            Mode::Bars(Bars::new(experiment, names.len()))
        } else {
            let n_runs = names.len();
            tell_line!("{}: {}", experiment.name, count(n_runs, "run"));
            Mode::Lines(Lines { last: BTreeMap::new(), done: 0, n_runs })
        };
        Display { names, mode, interrupt, said_stopping: false, waited_for: BTreeSet::new() }
    }

    /// Clears what moves.
    pub fn finish(mut self) {
        if let Mode::Bars(bars) = &mut self.mode {
            bars.current.values().for_each(ProgressBar::finish_and_clear);
            bars.all.finish_and_clear();
            let _ = bars.multi.clear();
        }
    }

    fn say_stopping(&mut self, departure: Departure) {
        self.said_stopping = true;
        self.say(match departure {
            Departure::Interrupted => "stopping at the next step; again to leave at once",
            Departure::Preempted => "asked to leave: keeps a checkpoint of what is under way first",
        });
    }

    /// A line above what moves.
    fn say(&self, text: &str) {
        match &self.mode {
            Mode::Silent => {}
            Mode::Lines(_) => tell_line!("{text}"),
            Mode::Bars(bars) => drop(bars.multi.println(text)),
        }
    }

    /// Lines of one run, once for each where several things are to be said at once.
    fn say_of(&self, name: &str, event: &Event) {
        match event {
            Event::TrainingStarted { done } if *done > 0 => {
                self.say(&format!("{name}: goes on from its checkpoint, step {done}"));
            }
            Event::TrainingStopped { done, kept: 0 } => {
                self.say(&format!("{name}: stopped after step {done}; the next sweep starts it anew"));
            }
            Event::TrainingStopped { done, kept } => {
                self.say(&format!("{name}: stopped after step {done}; the next sweep goes on from step {kept}"));
            }
            Event::Failed(failure) => self.say(&failure_text(name, failure)),
            Event::Note(text) => self.say(&format!("{name}: note: {text}")),
            Event::TrainingStarted { .. } | Event::Training(_) | Event::EvaluationStarted { .. } => {}
            Event::Waits { .. } | Event::Ended(_) => {}
        }
    }
}

impl Work {
    fn new(experiment: &Experiment) -> Work {
        let cells = experiment.cells.iter().enumerate();
        let runs =
            cells.flat_map(|(cell, runs)| runs.runs.iter().map(move |run| (Place { cell, seed: run.seed }, run)));
        let left = runs.map(|(place, run)| (place, run.train.length_steps)).collect();
        Work { left, trained_steps: 0, trained_s: 0.0, last: BTreeMap::new() }
    }

    fn step(&mut self, place: Place, progress: &Progress) {
        let (told, before) = self.last.insert(place, (Instant::now(), progress.step)).unzip();
        if let (Some(told), Some(before)) = (told, before)
            && progress.step > before
        {
            self.trained_steps += progress.step - before;
            self.trained_s += told.elapsed().as_secs_f64();
        }
        self.left.insert(place, progress.length_steps - progress.step);
    }

    fn end(&mut self, place: Place) {
        self.last.remove(&place);
        self.left.remove(&place);
    }

    /// Nothing until a few steps have told how long one takes.
    fn text(&self) -> String {
        if self.trained_steps < 3 {
            return String::new();
        }
        let left: u64 = self.left.values().sum();
        let side_by_side = self.last.len().max(1);
        let seconds = self.trained_s / self.trained_steps as f64 * left as f64 / side_by_side as f64;
        format!(", about {} of training left", HumanDuration(Duration::from_secs_f64(seconds)))
    }
}

/// What a run is called: the labels that tell its cell from the others, and its seed.
pub fn names(experiment: &Experiment) -> BTreeMap<Place, String> {
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
        Bars { multi, all, current: BTreeMap::new(), cached: 0, failed: 0, work: Work::new(experiment) }
    }

    /// The line of a run under way; `what` stands in place of its numbers. None where there is no room for one more.
    fn say(&mut self, place: Place, name: &str, what: &str) -> Option<&ProgressBar> {
        if !self.current.contains_key(&place) && self.current.len() >= LINES_MAX {
            return None;
        }
        let bar = self.current.entry(place).or_insert_with(|| {
            let bar = self.multi.insert_before(&self.all, ProgressBar::new(1));
            bar.set_style(ProgressStyle::with_template("{bar:16} {wide_msg}").expect("a fixed template"));
            bar
        });
        bar.set_message(format!("{what}  {name}"));
        Some(bar)
    }

    fn training(&mut self, place: Place, name: &str, progress: &Progress) {
        self.work.step(place, progress);
        if let Some(bar) = self.say(place, name, &training_text(progress)) {
            bar.set_length(progress.length_steps);
            bar.set_position(progress.step);
        }
        self.count();
    }

    fn end(&mut self, place: Place, outcome: &Outcome) {
        if let Some(bar) = self.current.remove(&place) {
            bar.finish_and_clear();
        }
        self.cached += usize::from(*outcome == Outcome::Cached);
        self.failed += usize::from(matches!(outcome, Outcome::TrainingFailed(_) | Outcome::EvaluationsFailed(_)));
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

/// The message and the last lines of the log.
fn failure_text(name: &str, StageFailure { key, failure }: &StageFailure) -> String {
    const LOG_LINES: usize = 4;
    let mut text = format!("{name}: failed: {} ({})", failure.message, key.short());
    let first = failure.log.len().saturating_sub(LOG_LINES);
    failure.log[first..].iter().for_each(|line| text.push_str(&format!("\n  | {line}")));
    text
}

/// How a run ended, where that is worth a line.
fn ended_text(outcome: &Outcome) -> Option<String> {
    Some(match outcome {
        Outcome::Cached | Outcome::Interrupted => return None,
        Outcome::Computed => "computed".to_owned(),
        Outcome::TrainingFailed(_) => "failed".to_owned(),
        Outcome::EvaluationsFailed(failures) => format!("{} failed", count(failures.len(), "evaluation")),
        Outcome::Taken(owner) => format!("in work elsewhere ({owner})"),
        Outcome::NoRoom(_) => "not begun: too little space where the store is".to_owned(),
    })
}

impl Audience for Display {
    fn tell(&mut self, place: Place, event: &Event) {
        if let Some(departure) = self.interrupt.departure().filter(|_| !self.said_stopping) {
            self.say_stopping(departure);
        }
        let name = self.names.get(&place).map_or("", String::as_str);
        self.say_of(name, event);
        match &mut self.mode {
            Mode::Silent => {}
            Mode::Bars(bars) => show_bar(bars, place, name, event),
            Mode::Lines(lines) => lines.show(place, name, event),
        }
        if let Event::Waits { owner } = event
            && self.waited_for.insert((*owner).to_owned())
        {
            self.say(&format!("waits for what is in work elsewhere ({owner}); `--no-wait` leaves instead"));
        }
    }
}

fn show_bar(bars: &mut Bars, place: Place, name: &str, event: &Event) {
    match event {
        Event::TrainingStarted { .. } => drop(bars.say(place, name, "starts")),
        Event::Training(progress) => bars.training(place, name, progress),
        Event::EvaluationStarted { name: evaluation } => {
            // Its steps are done: it trains beside no one.
            bars.work.last.remove(&place);
            bars.say(place, name, &format!("evaluates {evaluation}"));
        }
        Event::Ended(outcome) => {
            if matches!(outcome, Outcome::Taken(_) | Outcome::NoRoom(_))
                && let Some(how) = ended_text(outcome)
            {
                let _ = bars.multi.println(format!("{name}: {how}"));
            }
            bars.end(place, outcome);
        }
        Event::TrainingStopped { .. } | Event::Failed(_) | Event::Waits { .. } | Event::Note(_) => {}
    }
}

impl Lines {
    /// A line a run that ends: how many have ended, the run's name and how; and now and then where a training is.
    fn show(&mut self, place: Place, name: &str, event: &Event) {
        match event {
            Event::TrainingStarted { .. } => drop(self.last.insert(place, Instant::now())),
            Event::Training(progress) => {
                let last = self.last.entry(place).or_insert_with(Instant::now);
                if last.elapsed() >= QUIET_INTERVAL {
                    *last = Instant::now();
                    tell_line!("{name}: {}", training_text(progress));
                }
            }
            Event::Ended(outcome) => {
                self.done += 1;
                if let Some(how) = ended_text(outcome) {
                    tell_line!("[{}/{}] {name}: {how}", self.done, self.n_runs);
                }
            }
            Event::TrainingStopped { .. } | Event::Failed(_) | Event::Waits { .. } => {}
            Event::Note(_) | Event::EvaluationStarted { .. } => {}
        }
    }
}
