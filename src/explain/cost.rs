//! What missing stages will take, judged by recorded ones of the same kind. What no record tells stays unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::content::Key;
use crate::explain::features::{Leaf, leaves};
use crate::explain::index::Index;
use crate::explain::meaning::{PartKind, StageKind};
use crate::explain::units;
use crate::record::{Stage, blob};
use crate::results;
use crate::store::{Peek, Store};

/// Records read of one profile; the middle one of their speeds counts.
const READ_MAX: usize = 32;

/// What two stages have in common that cost alike. The hash is over the leaves that the variant names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// Model, device, views, optimizer, batch, pieces, numerics.
    Step(u64),
    /// Model, device, batch, pieces, numerics.
    Batch(u64),
    /// Model and device.
    Model(u64),
    /// Model and kind of optimizer: the size of a checkpoint.
    Checkpoint(u64),
    /// Model, device, data, kind of evaluation, its epochs, batch and augmentation, and a fine-tuning's share of the labels.
    Evaluation(u64),
}

impl Profile {
    /// Every profile of a stage, the closest first.
    pub fn all_of(preimage: &str) -> Vec<Profile> {
        match StageKind::of_preimage(preimage) {
            Some(stage) => Profile::of_leaves(stage, &leaves(preimage).collect::<Vec<_>>()),
            None => Vec::new(),
        }
    }

    /// As [`Profile::all_of`], of leaves that are read already.
    pub(super) fn of_leaves(stage: StageKind, leaves: &[Leaf]) -> Vec<Profile> {
        let hash = |counts: &dyn Fn(&Leaf) -> bool| {
            let mut hasher = DefaultHasher::new();
            let counted = leaves.iter().filter(|leaf| counts(leaf));
            counted.for_each(|leaf| (leaf.part as u8, leaf.path, leaf.value).hash(&mut hasher));
            hasher.finish()
        };
        let is_pretrain = |leaf: &Leaf| leaf.part == PartKind::Pretrain;
        let model = |leaf: &Leaf| is_pretrain(leaf) && leaf.is_below("model");
        let device = |leaf: &Leaf| model(leaf) || is_pretrain(leaf) && leaf.path == "backend";
        let batch = |leaf: &Leaf| {
            let paths = ["train.batch", "train.micro_batch", "train.numerics"];
            device(leaf) || is_pretrain(leaf) && paths.contains(&leaf.path)
        };
        let optimizer = |leaf: &Leaf| is_pretrain(leaf) && leaf.path == "train.optimizer";
        let step = |leaf: &Leaf| batch(leaf) || optimizer(leaf) || is_pretrain(leaf) && leaf.is_below("views");
        match stage {
            StageKind::Pretrain => vec![
                Profile::Step(hash(&step)),
                Profile::Batch(hash(&batch)),
                Profile::Model(hash(&device)),
                Profile::Checkpoint(hash(&|leaf| model(leaf) || optimizer(leaf))),
            ],
            StageKind::Evaluation => {
                let work =
                    ["evaluation", "evaluation.epochs", "evaluation.batch", "evaluation.augment", "evaluation.data"];
                // Most of a probe's time goes into features; a fine-tuning takes as long as it has images.
                let is_tuning = leaves.iter().any(|leaf| leaf.path == "evaluation" && leaf.value == "FineTune");
                vec![Profile::Evaluation(hash(&|leaf| match leaf.part {
                    PartKind::Pretrain => device(leaf),
                    PartKind::Data => true,
                    // A transfer holds its protocol one level below.
                    PartKind::Evaluation => {
                        let path = leaf.path.replacen("evaluation.protocol", "evaluation", 1);
                        work.contains(&path.as_str()) || is_tuning && path == "evaluation.labels"
                    }
                }))]
            }
        }
    }

    fn tells_time(self) -> bool {
        match self {
            Profile::Step(_) | Profile::Batch(_) | Profile::Model(_) | Profile::Evaluation(_) => true,
            Profile::Checkpoint(_) => false,
        }
    }

    fn tells_size(self) -> bool {
        matches!(self, Profile::Checkpoint(_) | Profile::Evaluation(_))
    }
}

/// What a recorded stage took.
#[derive(Debug, Clone, PartialEq)]
struct Measured {
    device: String,
    /// Images a second of a training, seconds of an evaluation.
    pace: Option<f64>,
    /// Without snapshots, which trainings of one size keep different numbers of.
    bytes: u64,
    /// Of one snapshot; of a training that keeps none, its final encoder's, which is no smaller.
    snapshot_bytes: u64,
}

/// Stages of one kind and what is known of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    pub n: usize,
    pub seconds: f64,
    /// How many of them the seconds are of.
    pub n_timed: usize,
    pub bytes: u64,
    /// How many of them the bytes are of.
    pub n_sized: usize,
}

/// What all missing stages take together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Forecast {
    pub trainings: Share,
    pub evaluations: Share,
    /// The records it is judged by.
    pub from: BTreeSet<Key>,
    /// What computed those.
    pub devices: BTreeSet<String>,
}

/// Judges stage after stage.
pub struct Forecaster<'a> {
    records: Option<(&'a Store, &'a Index)>,
    /// The device at hand; its records are preferred.
    device: Option<&'a str>,
    measured: BTreeMap<Key, Option<Measured>>,
    forecast: Forecast,
}

impl<'a> Forecaster<'a> {
    pub fn new(records: Option<(&'a Store, &'a Index)>, device: Option<&'a str>) -> Forecaster<'a> {
        Forecaster { records, device, measured: BTreeMap::new(), forecast: Forecast::default() }
    }

    /// `n` trainings that cost what the one of `preimage` does, each over `images` pairs of views.
    pub fn trainings(&mut self, preimage: impl FnOnce() -> String, n: usize, images: u64) {
        let profiles = self.profiles(preimage);
        let per_s = if images == 0 { Some(f64::INFINITY) } else { self.pace(&profiles) };
        let bytes = self.middle(&profiles, |measured| measured.bytes);
        let seconds = per_s.map(|per_s| images as f64 / per_s);
        self.forecast.trainings.add(n, seconds, bytes);
    }

    /// `n` snapshots in all, kept by trainings that cost what the one of `preimage` does.
    pub fn snapshots(&mut self, preimage: impl FnOnce() -> String, n: usize) {
        let profiles = self.profiles(preimage);
        let bytes = self.middle(&profiles, |measured| measured.snapshot_bytes).unwrap_or(0);
        let trainings = &mut self.forecast.trainings;
        trainings.bytes = trainings.bytes.saturating_add(bytes.saturating_mul(n as u64));
    }

    /// `n` evaluations that cost what the one of `preimage` does.
    pub fn evaluations(&mut self, preimage: impl FnOnce() -> String, n: usize) {
        let profiles = self.profiles(preimage);
        let (seconds, bytes) = (self.pace(&profiles), self.middle(&profiles, |measured| measured.bytes));
        self.forecast.evaluations.add(n, seconds, bytes);
    }

    pub fn finish(self) -> Forecast {
        self.forecast
    }

    /// A pre-image is long to make and hash, and without records there is nothing to compare it to.
    fn profiles(&self, preimage: impl FnOnce() -> String) -> Vec<Profile> {
        if self.records.is_some() { Profile::all_of(&preimage()) } else { Vec::new() }
    }

    /// The middle pace of the closest profile that the device at hand has a record of, else that any has.
    fn pace(&mut self, profiles: &[Profile]) -> Option<f64> {
        let here = self.device.and_then(|device| self.pace_on(profiles, Some(device)));
        here.or_else(|| self.pace_on(profiles, None))
    }

    fn pace_on(&mut self, profiles: &[Profile], device: Option<&str>) -> Option<f64> {
        for profile in profiles.iter().filter(|profile| profile.tells_time()) {
            let records = self.records_of(profile).into_iter();
            let of_device = records.filter(|(_, measured)| device.is_none_or(|device| measured.device == device));
            let mut paces: Vec<(f64, Key, String)> =
                of_device.filter_map(|(key, measured)| Some((measured.pace?, key, measured.device))).collect();
            paces.sort_by(|a, b| a.0.total_cmp(&b.0));
            let Some(middle) = paces.get(paces.len() / 2).map(|pace| pace.0) else { continue };
            for (_, key, device) in paces {
                self.forecast.from.insert(key);
                self.forecast.devices.insert(device);
            }
            return Some(middle);
        }
        None
    }

    /// The middle size of what the records of the same size hold.
    fn middle(&mut self, profiles: &[Profile], bytes: fn(&Measured) -> u64) -> Option<u64> {
        for profile in profiles.iter().filter(|profile| profile.tells_size()) {
            let mut sizes: Vec<u64> =
                self.records_of(profile).into_iter().map(|(_, measured)| bytes(&measured)).collect();
            sizes.sort_unstable();
            if let Some(middle) = sizes.get(sizes.len() / 2) {
                return Some(*middle);
            }
        }
        None
    }

    fn records_of(&mut self, profile: &Profile) -> Vec<(Key, Measured)> {
        let Some((store, index)) = self.records else { return Vec::new() };
        let mut found = Vec::new();
        for key in index.of_profile(profile, READ_MAX) {
            let known = match self.measured.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let measured = measure(store, key);
                    self.measured.insert(key, measured.clone());
                    measured
                }
            };
            found.extend(known.map(|measured| (key, measured)));
        }
        found
    }
}

fn measure(store: &Store, key: Key) -> Option<Measured> {
    let Ok(Peek::Hit(entry)) = store.peek(&key) else { return None };
    let record = results::parse(&entry).ok()?;
    let pace = match &record.stage {
        Stage::Pretrain(pretrain) => pretrain.images_per_s().filter(|speed| *speed > 0.0),
        Stage::Evaluation(evaluation) => Some(evaluation.seconds).filter(|seconds| seconds.is_finite()),
        Stage::Failure(_) => return None,
    };
    let text = (entry.body.len() + 2 * entry.preimage.len()) as u64;
    let (mut bytes, mut snapshot_bytes) = (text, 0);
    for (name, blob) in &entry.blobs {
        match (blob::is_encoder(name), name == blob::CHECKPOINT) {
            (true, false) => snapshot_bytes = blob.bytes,
            (true, true) | (false, _) => bytes = u64::saturating_add(bytes, blob.bytes),
        }
    }
    if snapshot_bytes == 0 {
        snapshot_bytes = entry.blobs.get(blob::CHECKPOINT).map_or(0, |checkpoint| checkpoint.bytes);
    }
    Some(Measured { device: record.provenance.device, pace, bytes, snapshot_bytes })
}

impl Share {
    fn add(&mut self, n: usize, seconds: Option<f64>, bytes: Option<u64>) {
        self.n += n;
        if let Some(seconds) = seconds {
            self.seconds += seconds * n as f64;
            self.n_timed += n;
        }
        if let Some(bytes) = bytes {
            self.bytes = self.bytes.saturating_add(bytes.saturating_mul(n as u64));
            self.n_sized += n;
        }
    }
}

impl Forecast {
    pub fn seconds(&self) -> f64 {
        self.trainings.seconds + self.evaluations.seconds
    }

    pub fn bytes(&self) -> u64 {
        self.trainings.bytes.saturating_add(self.evaluations.bytes)
    }

    /// What it takes and what of it is unknown, a sentence each; none where nothing is to be done.
    pub fn sentences(&self) -> Vec<String> {
        let Forecast { trainings, evaluations, .. } = self;
        if trainings.n + evaluations.n == 0 {
            return Vec::new();
        }
        let told = |trainings: usize, evaluations: usize| {
            let word = |n: usize, noun: &str| (n > 0).then(|| format!("{n} {noun}{}", if n == 1 { "" } else { "s" }));
            let words = [word(trainings, "training"), word(evaluations, "evaluation")];
            words.into_iter().flatten().collect::<Vec<_>>().join(" and ")
        };
        let mut sentences = Vec::new();
        let time = (trainings.n_timed + evaluations.n_timed > 0).then(|| units::duration(self.seconds()));
        let size = (trainings.n_sized + evaluations.n_sized > 0).then(|| units::bytes(self.bytes()));
        if let Some(time) = time {
            let size = size.map(|size| format!(" and {size}")).unwrap_or_default();
            let of = told(trainings.n_timed, evaluations.n_timed);
            sentences.push(format!("about {time}{size} for {of}{}", self.source()));
        } else if let Some(size) = size {
            sentences.push(format!("about {size} for {}", told(trainings.n_sized, evaluations.n_sized)));
        }
        let untimed = told(trainings.n - trainings.n_timed, evaluations.n - evaluations.n_timed);
        if !untimed.is_empty() {
            sentences.push(format!("how long {untimed} will take is unknown: nothing of the kind is recorded"));
        }
        let unsized_stages = told(trainings.n - trainings.n_sized, evaluations.n - evaluations.n_sized);
        if !unsized_stages.is_empty() {
            sentences
                .push(format!("how many bytes {unsized_stages} will keep is unknown: nothing of the kind is recorded"));
        }
        sentences
    }

    fn source(&self) -> String {
        if self.from.is_empty() {
            return String::new();
        }
        let n = self.from.len();
        let devices: Vec<&str> = self.devices.iter().map(|device| device.trim()).collect();
        format!(" (from {n} recorded stage{} on {})", if n == 1 { "" } else { "s" }, devices.join(" and "))
    }
}
