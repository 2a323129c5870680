//! What a sweep tells `watch` while it computes: a small file a process in RESULTS/live, replaced as a whole once a second.
//!
//! It is news for people. Nothing decides anything by it, a sweep that cannot write it goes on without a word, and it goes
//! when the sweep ends; one that a killed process left behind is old, which its reader sees.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::commands::code::now_unix_s;
use crate::commands::progress::Display;
use crate::device;
use crate::runner::provenance::Origin;
use crate::runner::{Audience, Event, Place};

/// Changes with the file's fields; news of another format is passed over.
const FORMAT: u32 = 1;

const INTERVAL: Duration = Duration::from_secs(1);

/// News this old is of a process that is gone. An evaluation has none to tell until it ends.
const FRESH_S: u64 = 600;

/// Points of a curve that are kept: more than a terminal has columns for.
const POINTS_MAX: usize = 240;

/// What one process is doing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Live {
    format: u32,
    /// The experiment's name.
    pub experiment: String,
    pub host: String,
    pub pid: u32,
    /// `cpu`, `cuda:0`.
    pub device: String,
    pub updated_unix_s: u64,
    /// Memory in use, where the system tells.
    pub memory_bytes: Option<u64>,
    pub runs: Vec<LiveRun>,
    /// Of this sitting, the oldest first.
    pub failures: Vec<LiveFailure>,
}

/// A run under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveRun {
    pub cell: usize,
    pub seed: u64,
    pub stage: LiveStage,
    /// Losses over the steps, thinned out evenly.
    pub curve: Vec<(u64, f64)>,
    /// One step in so many has a point.
    stride: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum LiveStage {
    Starting,
    Training { step: u64, length_steps: u64, loss: f64, images_per_s: f64 },
    Evaluating { name: String },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveFailure {
    pub cell: usize,
    pub seed: u64,
    pub message: String,
}

impl LiveRun {
    fn new(place: Place) -> LiveRun {
        LiveRun { cell: place.cell, seed: place.seed, stage: LiveStage::Starting, curve: Vec::new(), stride: 1 }
    }

    fn add_point(&mut self, step: u64, loss: f64) {
        if !loss.is_finite() || !step.is_multiple_of(self.stride) {
            return;
        }
        self.curve.push((step, loss));
        if self.curve.len() > POINTS_MAX {
            self.stride *= 2;
            let stride = self.stride;
            self.curve.retain(|(step, _)| step.is_multiple_of(stride));
        }
    }
}

impl Live {
    fn change(&mut self, place: Place, event: &Event) {
        let is_of = |run: &LiveRun| (run.cell, run.seed) == (place.cell, place.seed);
        if let Event::Ended(_) = event {
            self.runs.retain(|run| !is_of(run));
            return;
        }
        if let Event::Failed(failure) = event {
            let (cell, seed, message) = (place.cell, place.seed, failure.failure.message.clone());
            self.failures.push(LiveFailure { cell, seed, message });
            return;
        }
        let index = self.runs.iter().position(is_of).unwrap_or_else(|| {
            self.runs.push(LiveRun::new(place));
            self.runs.len() - 1
        });
        let run = &mut self.runs[index];
        match event {
            Event::Training(progress) => {
                let (step, length_steps) = (progress.step, progress.length_steps);
                let (loss, images_per_s) = (progress.loss, progress.images_per_s);
                run.stage = LiveStage::Training { step, length_steps, loss, images_per_s };
                run.add_point(step, loss);
            }
            Event::EvaluationStarted { name } => run.stage = LiveStage::Evaluating { name: (*name).to_owned() },
            Event::TrainingStarted { .. } | Event::TrainingStopped { .. } | Event::Waits { .. } => {}
            Event::Note(_) | Event::Failed(_) | Event::Ended(_) => {}
        }
    }

    /// Whether its process is there, as far as can be told from `host`.
    pub fn is_alive(&self, host: &str, now_unix_s: u64) -> bool {
        let is_fresh = now_unix_s.saturating_sub(self.updated_unix_s) <= FRESH_S;
        let processes = Path::new("/proc/self");
        let is_gone =
            host == self.host && processes.exists() && !processes.with_file_name(self.pid.to_string()).exists();
        is_fresh && !is_gone
    }
}

/// A sweep's display that also writes the news.
pub struct Told {
    display: Display,
    live: Live,
    path: PathBuf,
    written: Option<Instant>,
}

impl Told {
    /// `folder` is where results go.
    pub fn new(display: Display, folder: &Path, experiment: &str, origin: &Origin) -> Told {
        let pid = std::process::id();
        let device = match origin.backend.name() {
            "cuda" => format!("cuda:{}", origin.device),
            name => name.to_owned(),
        };
        let live = Live {
            format: FORMAT,
            experiment: experiment.to_owned(),
            host: origin.host.clone(),
            pid,
            device,
            updated_unix_s: 0,
            memory_bytes: None,
            runs: Vec::new(),
            failures: Vec::new(),
        };
        Told { display, live, path: self::folder(folder).join(format!("{}-{pid}.json", origin.host)), written: None }
    }

    /// Clears what moves, and takes the news away.
    pub fn finish(self) {
        if self.written.is_some() {
            let _ = fs::remove_file(&self.path);
            let _ = self.path.parent().map(fs::remove_dir);
        }
        self.display.finish();
    }

    /// Without syncing: news that a power cut takes is no loss.
    fn write(&mut self) {
        self.written = Some(Instant::now());
        (self.live.updated_unix_s, self.live.memory_bytes) = (now_unix_s(), device::process_bytes("VmRSS"));
        let Ok(text) = serde_json::to_vec(&self.live) else { return };
        let temporary = self.path.with_extension("tmp");
        let _ = self.path.parent().map(fs::create_dir_all);
        if fs::write(&temporary, text).is_ok() {
            let _ = fs::rename(&temporary, &self.path);
        }
    }
}

impl Audience for Told {
    fn tell(&mut self, place: Place, event: &Event) {
        self.display.tell(place, event);
        self.live.change(place, event);
        // A sweep that computes nothing has no news.
        if !self.live.runs.is_empty() && self.written.is_none_or(|at| at.elapsed() >= INTERVAL) {
            self.write();
        }
    }
}

fn folder(results: &Path) -> PathBuf {
    results.join("live")
}

/// The news of an experiment, by host and process; what cannot be read is passed over, since it may be half written.
pub fn read(results: &Path, experiment: &str) -> Vec<Live> {
    let Ok(items) = fs::read_dir(folder(results)) else { return Vec::new() };
    let of = |path: PathBuf| -> Option<Live> {
        let is_news = path.extension().is_some_and(|extension| extension == "json");
        let live: Live = serde_json::from_slice(&fs::read(path).ok().filter(|_| is_news)?).ok()?;
        (live.format == FORMAT && live.experiment == experiment).then_some(live)
    };
    let mut all: Vec<Live> = items.flatten().filter_map(|item| of(item.path())).collect();
    all.sort_by(|a, b| (&a.host, a.pid).cmp(&(&b.host, b.pid)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::Progress;

    fn live() -> Live {
        Live {
            format: FORMAT,
            experiment: "batch".to_owned(),
            host: "node".to_owned(),
            pid: 7,
            device: "cpu".to_owned(),
            updated_unix_s: 100,
            memory_bytes: None,
            runs: Vec::new(),
            failures: Vec::new(),
        }
    }

    #[test]
    fn a_run_comes_trains_evaluates_and_goes() {
        let place = Place { cell: 1, seed: 2 };
        let mut live = live();
        live.change(place, &Event::TrainingStarted { done: 0 });
        assert_eq!(live.runs[0].stage, LiveStage::Starting);
        for step in 1..=3 {
            let progress = Progress { step, length_steps: 9, loss: 5.0 - step as f64, images_per_s: 80.0 };
            live.change(place, &Event::Training(progress));
        }
        assert_eq!(live.runs[0].curve, [(1, 4.0), (2, 3.0), (3, 2.0)]);
        live.change(place, &Event::EvaluationStarted { name: "knn" });
        assert_eq!(live.runs[0].stage, LiveStage::Evaluating { name: "knn".to_owned() });
        live.change(place, &Event::Ended(&crate::runner::Outcome::Computed));
        assert_eq!(live.runs, []);
    }

    #[test]
    fn a_long_curve_is_thinned_out_evenly() {
        let mut run = LiveRun::new(Place { cell: 0, seed: 0 });
        (1..=10_000).for_each(|step| run.add_point(step, 1.0));
        run.add_point(10_001, f64::NAN);
        assert!(run.curve.len() > POINTS_MAX / 3 && run.curve.len() <= POINTS_MAX, "{}", run.curve.len());
        assert!(run.curve.windows(2).all(|pair| pair[1].0 - pair[0].0 == run.stride), "{:?}", run.curve);
    }

    #[test]
    fn news_of_this_experiment_alone_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            fs::create_dir_all(self::folder(folder.path())).unwrap();
            fs::write(self::folder(folder.path()).join(name), text).unwrap();
        };
        assert_eq!(read(folder.path(), "batch"), []);
        put("node-7.json", &serde_json::to_string(&live()).unwrap());
        put("node-8.json", &serde_json::to_string(&Live { experiment: "other".to_owned(), ..live() }).unwrap());
        put("node-9.json", &serde_json::to_string(&Live { format: FORMAT + 1, ..live() }).unwrap());
        put("node-10.json", "{\"format\":");
        put("node-11.tmp", &serde_json::to_string(&live()).unwrap());
        assert_eq!(read(folder.path(), "batch"), [live()]);
    }

    #[test]
    fn a_process_is_alive_by_its_news_or_by_its_host() {
        let old = 100 + FRESH_S + 1;
        assert!(
            live().is_alive("another", 100) && live().is_alive("another", old - 1) && !live().is_alive("another", old)
        );
        let mine = Live { pid: std::process::id(), ..live() };
        assert!(mine.is_alive("node", 100) && !mine.is_alive("node", old));
        assert!(!Live { pid: u32::MAX, ..live() }.is_alive("node", 100));
    }
}
