//! What the screen shows, as plain data: the grid of runs, those in work, what failed.

use std::collections::BTreeMap;

use crate::commands::live::{Live, LiveStage};
use crate::commands::survey::{Line, Standing};
use crate::experiment::Experiment;
use crate::experiment::run::Run;
use crate::explain::Verdict;
use crate::runner::Place;

/// Everything there is to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct Screen {
    pub experiment: String,
    pub question: String,
    pub seeds: Vec<u64>,
    /// One a cell, in the file's order.
    pub rows: Vec<Row>,
    pub working: Vec<Working>,
    pub failures: Vec<String>,
    /// One a process.
    pub processes: Vec<Process>,
    /// Of training, where the speed is known.
    pub seconds_left: Option<f64>,
}

/// A cell: what is called, and one state a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub label: String,
    pub states: Vec<State>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum State {
    Stored,
    /// Some of its stages are stored.
    Partial,
    ToDo,
    Failed,
    Working,
}

/// A run under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Working {
    pub name: String,
    pub stage: LiveStage,
    pub curve: Vec<(u64, f64)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    pub host: String,
    pub pid: u32,
    pub device: String,
    pub images_per_s: f64,
    pub memory_bytes: Option<u64>,
}

/// How many runs there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub all: usize,
    pub stored: usize,
    pub working: usize,
    pub failed: usize,
    pub to_do: usize,
}

impl Screen {
    /// `lines` are the survey of the experiment, `names` what its runs are called; `live` is the news of living processes.
    pub fn new(experiment: &Experiment, lines: &[Line], names: &BTreeMap<Place, String>, live: &[Live]) -> Screen {
        let mut states: BTreeMap<Place, State> = lines.iter().map(|line| (place(line), stored_state(line))).collect();
        let (mut working, mut processes, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        let name = |place: &Place| names.get(place).cloned().unwrap_or_default();
        for of in live {
            let mut images_per_s = 0.0;
            for run in &of.runs {
                let place = Place { cell: run.cell, seed: run.seed };
                states.insert(place, State::Working);
                if let LiveStage::Training { images_per_s: speed, .. } = run.stage {
                    images_per_s += speed;
                }
                working.push(Working { name: name(&place), stage: run.stage.clone(), curve: run.curve.clone() });
            }
            let (host, device, memory_bytes) = (of.host.clone(), of.device.clone(), of.memory_bytes);
            processes.push(Process { host, pid: of.pid, device, images_per_s, memory_bytes });
        }
        for line in lines.iter().filter(|line| states[&place(line)] == State::Failed) {
            let message = line.stages().filter_map(failure).next().unwrap_or_default();
            failures.push(format!("{}: {message}", name(&place(line))));
        }
        let state = |cell: usize, seed: u64| states.get(&Place { cell, seed }).copied().unwrap_or(State::ToDo);
        let rows = experiment.cells.iter().enumerate().map(|(index, cell)| Row {
            label: label(experiment, &cell.labels),
            states: experiment.seeds.iter().map(|&seed| state(index, seed)).collect(),
        });
        Screen {
            experiment: experiment.name.clone(),
            question: experiment.question.clone(),
            seeds: experiment.seeds.clone(),
            rows: rows.collect(),
            seconds_left: seconds_left(lines, &states, live),
            working,
            failures,
            processes,
        }
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for state in self.rows.iter().flat_map(|row| &row.states) {
            counts.all += 1;
            match state {
                State::Stored => counts.stored += 1,
                State::Working => counts.working += 1,
                State::Failed => counts.failed += 1,
                State::Partial | State::ToDo => counts.to_do += 1,
            }
        }
        counts
    }
}

fn place(line: &Line) -> Place {
    Place { cell: line.cell, seed: line.run.seed }
}

fn label(experiment: &Experiment, labels: &[String]) -> String {
    if labels.is_empty() { experiment.name.clone() } else { labels.join(" · ") }
}

fn stored_state(line: &Line) -> State {
    match line.standing() {
        Standing::Complete => State::Stored,
        Standing::Failed => State::Failed,
        Standing::Partial => State::Partial,
        Standing::Missing => State::ToDo,
    }
}

fn failure(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Failed { message, .. } => Some(message.clone()),
        Verdict::Stored | Verdict::New | Verdict::Again { .. } => None,
    }
}

/// All images that are still to be seen over what all processes see a second.
fn seconds_left(lines: &[Line], states: &BTreeMap<Place, State>, live: &[Live]) -> Option<f64> {
    let images = |run: &Run, steps: u64| steps as f64 * f64::from(run.train.batch);
    let (mut left, mut speed) = (0.0, 0.0);
    for line in lines {
        let is_waiting = line.training.is_to_do() && states[&place(line)] != State::Working;
        left += if is_waiting { images(line.run, line.run.train.length_steps) } else { 0.0 };
    }
    for run in live.iter().flat_map(|of| &of.runs) {
        let LiveStage::Training { step, length_steps, images_per_s, .. } = run.stage else { continue };
        let line = lines.iter().find(|line| (line.cell, line.run.seed) == (run.cell, run.seed))?;
        left += images(line.run, length_steps - step.min(length_steps));
        speed += images_per_s;
    }
    (speed > 0.0).then_some(left / speed)
}
