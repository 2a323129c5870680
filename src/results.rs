//! The store as an experiment sees it: the records of a run's stages, typed and checked against each other.

use crate::content::Key;
use crate::experiment::run::{Run, RunKeys};
use crate::record::{self, Record, Stage, blob};
use crate::store::{BlobRef, Entry, Peek, Store, StoreError};

/// What the store holds for a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum State<T> {
    Hit(Box<Found<T>>),
    /// Nothing usable; the reason says more than "never computed".
    Miss {
        reason: Option<String>,
    },
    /// The last attempt gave no result.
    Failed(record::Failure, Box<record::Provenance>),
}

/// A stage's entry and what it says.
#[derive(Debug, Clone, PartialEq)]
pub struct Found<T> {
    /// Without its texts, which thousands of runs at once have no room for: the body is what the next two say, and the
    /// pre-image is what the run says.
    pub entry: Entry,
    pub provenance: record::Provenance,
    pub stage: T,
}

impl<T> Found<T> {
    /// Whether the checkpoint the entry names, or a snapshot, was dropped on purpose.
    pub fn checkpoint_dropped(&self) -> bool {
        self.entry.dropped.keys().any(|name| blob::is_encoder(name))
    }

    /// The blob of the snapshot after so many steps, or of the final encoder.
    pub fn encoder(&self, snapshot: Option<u64>) -> Option<BlobRef> {
        let name = snapshot.map_or_else(|| blob::CHECKPOINT.to_owned(), blob::snapshot);
        self.entry.blobs.get(&name).copied()
    }
}

impl<T> State<T> {
    pub fn failure(&self) -> Option<&record::Failure> {
        match self {
            State::Failed(failure, _) => Some(failure),
            State::Hit(_) | State::Miss { .. } => None,
        }
    }

    pub fn hit(self) -> Option<Found<T>> {
        match self {
            State::Hit(found) => Some(*found),
            State::Miss { .. } | State::Failed(..) => None,
        }
    }
}

/// Every stage of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunState {
    pub pretrain: State<record::Pretrain>,
    /// In the order of `Run::asked`.
    pub evaluations: Vec<State<record::Evaluation>>,
}

impl RunState {
    /// Nothing is left to compute.
    pub fn is_complete(&self) -> bool {
        matches!(self.pretrain, State::Hit(_)) && self.evaluations.iter().all(|state| matches!(state, State::Hit(_)))
    }

    /// Whether `gc` dropped the encoder on purpose. The record and its evaluations stand; an evaluation that is missing
    /// needs the encoder trained again.
    pub fn checkpoint_dropped(&self) -> bool {
        match &self.pretrain {
            State::Hit(found) => found.checkpoint_dropped(),
            State::Miss { .. } | State::Failed(..) => false,
        }
    }

    /// How much of it there is, for choosing between backends: everything, an encoder, a failure, nothing.
    pub fn rank(&self) -> u8 {
        match &self.pretrain {
            State::Hit(_) if self.is_complete() => 3,
            State::Hit(_) => 2,
            State::Failed(..) => 1,
            State::Miss { .. } => 0,
        }
    }
}

/// As `inspect`, of a store that may not be there yet.
pub fn inspect_in(store: Option<&Store>, run: &Run) -> Result<RunState, StoreError> {
    match store {
        Some(store) => inspect(store, run),
        None => Ok(RunState {
            pretrain: State::Miss { reason: None },
            evaluations: run.asked().iter().map(|_| State::Miss { reason: None }).collect(),
        }),
    }
}

/// A run's keys and what the store holds for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspected {
    pub keys: RunKeys,
    pub state: RunState,
}

/// Of one run on several backends the one that got furthest, the first of equals, by its index.
///
/// # Errors
/// The store's.
///
/// # Panics
/// Without a run.
pub fn inspect_best(store: Option<&Store>, runs: &[&Run]) -> Result<(usize, Inspected), StoreError> {
    let mut best: Option<(usize, Inspected)> = None;
    for (index, run) in runs.iter().enumerate() {
        let inspected = match store {
            Some(store) => inspect_run(store, run)?,
            None => Inspected { keys: run.keys(), state: inspect_in(None, run)? },
        };
        if best.as_ref().is_none_or(|(_, best)| best.state.rank() < inspected.state.rank()) {
            let is_complete = inspected.state.is_complete();
            best = Some((index, inspected));
            if is_complete {
                break;
            }
        }
    }
    Ok(best.expect("a run on some backend"))
}

impl Inspected {
    /// What counts of every stage, the training's first: a result, or the failure where there is none. Why a record that is
    /// there does not count goes to `damage`, a line each.
    pub fn into_records(self, damage: &mut Vec<String>) -> Vec<Option<Record>> {
        let Inspected { keys, state } = self;
        let training = counted(keys.pretrain, state.pretrain, Stage::Pretrain, damage);
        let evaluations = keys.evaluations.into_iter().zip(state.evaluations);
        let evaluations = evaluations.map(|(key, state)| counted(key, state, Stage::Evaluation, damage));
        std::iter::once(training).chain(evaluations).collect()
    }
}

fn counted<T>(key: Key, state: State<T>, stage: impl Fn(T) -> Stage, damage: &mut Vec<String>) -> Option<Record> {
    let (stage, provenance) = match state {
        State::Hit(found) => (stage(found.stage), found.provenance),
        State::Failed(failure, provenance) => (Stage::Failure(failure), *provenance),
        State::Miss { reason } => {
            damage.extend(reason);
            return None;
        }
    };
    Some(Record { format: record::FORMAT, key, stage, provenance })
}

/// What the store holds for `run`; claims and writes nothing.
pub fn inspect(store: &Store, run: &Run) -> Result<RunState, StoreError> {
    inspect_keys(store, &run.keys())
}

/// As [`inspect`], with the run's keys.
///
/// # Errors
/// The store's.
pub fn inspect_run(store: &Store, run: &Run) -> Result<Inspected, StoreError> {
    let keys = run.keys();
    let state = inspect_keys(store, &keys)?;
    Ok(Inspected { keys, state })
}

/// As [`inspect`] of the run with these keys.
///
/// # Errors
/// The store's.
pub fn inspect_keys(store: &Store, keys: &RunKeys) -> Result<RunState, StoreError> {
    let pretrain = pretrain(store, keys.pretrain)?;
    let encoder = |snapshot| match &pretrain {
        State::Hit(found) => found.encoder(snapshot).map(|blob| blob.digest),
        State::Miss { .. } | State::Failed(..) => None,
    };
    let asked = keys.evaluations.iter().zip(&keys.snapshots);
    let evaluations =
        asked.map(|(key, snapshot)| evaluation(store, *key, encoder(*snapshot))).collect::<Result<_, _>>()?;
    Ok(RunState { pretrain, evaluations })
}

/// The training of a key, with a checkpoint to evaluate.
pub fn pretrain(store: &Store, key: Key) -> Result<State<record::Pretrain>, StoreError> {
    stage(store, key, |stage, entry| match stage {
        Stage::Pretrain(_) if !entry.blobs.contains_key(blob::CHECKPOINT) => {
            Err("the record names no checkpoint".to_owned())
        }
        Stage::Pretrain(pretrain) if pretrain.snapshots.iter().any(|kept| !entry.blobs.contains_key(&kept.blob)) => {
            Err("the record names a snapshot that it does not have".to_owned())
        }
        Stage::Pretrain(pretrain) => Ok(pretrain),
        Stage::Evaluation(_) | Stage::Failure(_) => Err("the record is not of a training".to_owned()),
    })
}

/// The evaluation of a key. `checkpoint` is the digest the training's record names now: an evaluation of another one does not count.
pub fn evaluation(store: &Store, key: Key, checkpoint: Option<Key>) -> Result<State<record::Evaluation>, StoreError> {
    stage(store, key, |stage, _| match stage {
        Stage::Evaluation(found) if checkpoint.is_some_and(|digest| digest != found.checkpoint) => {
            Err("it evaluated another checkpoint of this training".to_owned())
        }
        Stage::Evaluation(found) => Ok(found),
        Stage::Pretrain(_) | Stage::Failure(_) => Err("the record is not of an evaluation".to_owned()),
    })
}

fn stage<T>(
    store: &Store,
    key: Key,
    typed: impl Fn(Stage, &Entry) -> Result<T, String>,
) -> Result<State<T>, StoreError> {
    let reason = match store.peek(&key)? {
        Peek::Hit(mut entry) => {
            match parse(&entry).and_then(|record| Ok((record.provenance, typed(record.stage, &entry)?))) {
                Ok((provenance, stage)) => {
                    (entry.body, entry.preimage) = (String::new(), String::new());
                    return Ok(State::Hit(Box::new(Found { entry, provenance, stage })));
                }
                Err(problem) => Some(problem),
            }
        }
        Peek::Absent => None,
        Peek::Damaged(problem) => Some(problem),
    };
    let failure = store.failure(&key)?.and_then(|entry| parse(&entry).ok());
    Ok(match failure.map(|record| (record.stage, record.provenance)) {
        Some((Stage::Failure(failure), provenance)) => State::Failed(failure, Box::new(provenance)),
        Some((Stage::Pretrain(_) | Stage::Evaluation(_), _)) | None => State::Miss { reason },
    })
}

/// Reads a record's text; refuses another format or another key's record.
pub fn parse(entry: &Entry) -> Result<Record, String> {
    let record: Record = serde_json::from_str(&entry.body).map_err(|error| format!("unreadable record: {error}"))?;
    if record.format != record::FORMAT {
        return Err(format!("record format {}, this program reads {}", record.format, record::FORMAT));
    }
    if record.key != entry.key {
        return Err(format!("the record says it belongs to {}", record.key.short()));
    }
    Ok(record)
}
