//! What the store has of an experiment, as a page wants it: rows, the records behind them, histories, features, pictures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;

use crate::commands::code;
use crate::commands::count;
use crate::commands::error::CommandError;
use crate::commands::paragraph::note;
use crate::commands::report::pictures;
use crate::content::Key;
use crate::experiment::Experiment;
use crate::experiment::run::Run;
use crate::explain::CodeCensus;
use crate::explain::code::date;
use crate::history::History;
use crate::record::{Record, Stage, blob};
use crate::report::collect;
use crate::report::histories::RunHistory;
use crate::report::page::feature_map::{FeatureMap, IMAGES_MAX};
use crate::report::page::grid::Grid;
use crate::report::page::{Evaluated, Sheet, Spent};
use crate::report::principal_components::project;
use crate::report::row::{EncoderKind, Row, Status};
use crate::store::{Peek, Store};

/// Pictures of a page, and what they may take together.
const SHEETS_MAX: usize = 6;
const SHEETS_BYTES_MAX: usize = 900_000;

pub struct Evidence<'a> {
    pub rows: Vec<Row>,
    /// Why records that are there do not count, a line each.
    pub damage: Vec<String>,
    pub records: BTreeMap<Key, Record>,
    pub census: CodeCensus,
    /// The runs that count, of the backend that got furthest: `runs[cell][seed]`.
    pub runs: Vec<Vec<&'a Run>>,
}

impl<'a> Evidence<'a> {
    /// # Errors
    /// The store's.
    ///
    /// # Panics
    /// Without a candidate.
    pub fn gather(store: Option<&Store>, candidates: &[&'a Experiment]) -> Result<Evidence<'a>, CommandError> {
        let seen: Mutex<BTreeMap<Key, Record>> = Mutex::default();
        let collected = collect::from_store(store, candidates, &|record| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(record.key, record.clone());
        })?;
        let records = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut census = CodeCensus::default();
        records.values().for_each(|record| code::count(record, &mut census));
        let runs = chosen_runs(candidates, &collected.rows);
        Ok(Evidence { rows: collected.rows, damage: collected.damage, records, census, runs })
    }

    /// The history of every training that is there, by cell and seed. A broken one is said and left out.
    ///
    /// # Errors
    /// The store's.
    pub fn histories(&self, store: &Store) -> Result<Vec<RunHistory>, CommandError> {
        let places: Vec<(u32, &Run)> =
            (0..).zip(&self.runs).flat_map(|(cell, runs)| runs.iter().map(move |run| (cell, *run))).collect();
        let read = |(cell, run): &(u32, &Run)| -> Result<Option<RunHistory>, CommandError> {
            let pretrain_key = run.pretrain_key();
            let Some(bytes) = self.blob(store, &pretrain_key, blob::HISTORY)? else { return Ok(None) };
            Ok(match History::from_parquet(&bytes) {
                Ok(history) => Some(RunHistory { cell: *cell, seed: run.seed, pretrain_key, history }),
                Err(problem) => {
                    note(&format!("the history of {} is left out: {problem}", pretrain_key.short()));
                    None
                }
            })
        };
        let histories: Vec<Option<RunHistory>> = places.par_iter().map(read).collect::<Result<_, _>>()?;
        Ok(histories.into_iter().flatten().collect())
    }

    /// A blob of a record that counts; none where it was dropped or cannot be read, which is said.
    fn blob(&self, store: &Store, key: &Key, name: &str) -> Result<Option<Vec<u8>>, CommandError> {
        let is_result = |record: &Record| match record.stage {
            Stage::Pretrain(_) | Stage::Evaluation(_) => true,
            Stage::Failure(_) => false,
        };
        if !self.records.get(key).is_some_and(is_result) {
            return Ok(None);
        }
        let Peek::Hit(entry) = store.peek(key)? else { return Ok(None) };
        let Some(stored) = entry.blobs.get(name).filter(|_| !entry.dropped.contains_key(name)) else { return Ok(None) };
        match store.read_blob(stored) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(problem) => {
                note(&format!("`{name}` of {} is left out: {problem}", key.short()));
                Ok(None)
            }
        }
    }

    /// Maps of the features of some cells, of the first seed that has them; of the baseline and the highest mean where no
    /// cell is asked for.
    ///
    /// # Errors
    /// The store's.
    pub fn maps(
        &self,
        store: &Store,
        experiment: &Experiment,
        grid: &Grid,
        asked: &[usize],
    ) -> Result<Vec<FeatureMap>, CommandError> {
        let cells = if asked.is_empty() { telling_cells(grid) } else { asked.to_vec() };
        let mut maps = Vec::new();
        for cell in cells {
            let runs = self.runs[cell].iter();
            let found = runs.map(|run| self.map_of(store, experiment, cell, run)).find_map(Result::transpose);
            maps.extend(found.transpose()?);
        }
        Ok(maps)
    }

    fn map_of(
        &self,
        store: &Store,
        experiment: &Experiment,
        cell: usize,
        run: &Run,
    ) -> Result<Option<FeatureMap>, CommandError> {
        for key in run.keys().evaluations {
            let Some(Record { stage: Stage::Evaluation(evaluation), .. }) = self.records.get(&key) else { continue };
            let Some(bytes) = self.blob(store, &key, blob::FEATURES)? else { continue };
            let Some((features, labels, width)) = features(&bytes, IMAGES_MAX) else {
                note(&format!("the features of {} are left out: they cannot be read", key.short()));
                continue;
            };
            let Some(projection) = project(&features, width) else { continue };
            let labels_of_cell = &experiment.cells[cell].labels;
            let name = if labels_of_cell.is_empty() { "the only cell".to_owned() } else { labels_of_cell.join(", ") };
            let title = format!("{name}, seed {}", run.seed);
            return Ok(Some(FeatureMap { title, projection, labels, class_names: evaluation.class_names.clone() }));
        }
        Ok(None)
    }

    /// A contact sheet a list of augmentations, made to fit.
    ///
    /// # Errors
    /// The store's.
    pub fn sheets(&self, store: &Store, experiment: &Experiment) -> Result<Vec<Sheet>, CommandError> {
        let mut kinds: Vec<(&Run, Vec<usize>)> = Vec::new();
        for (cell, runs) in self.runs.iter().enumerate() {
            let Some(run) = runs.first() else { continue };
            let is_same = |known: &Run| {
                known.views == run.views && known.dataset == run.dataset && known.model.side == run.model.side
            };
            match kinds.iter_mut().find(|(known, _)| is_same(known)) {
                Some((_, cells)) => cells.push(cell),
                None => kinds.push((run, vec![cell])),
            }
        }
        let n_kinds = kinds.len();
        kinds.truncate(SHEETS_MAX);
        let bytes_max = SHEETS_BYTES_MAX / kinds.len().max(1);
        let mut sheets = Vec::new();
        for (_, cells) in kinds {
            let of_cells = cells.iter().filter_map(|cell| self.runs[*cell].first());
            let mut pictures = of_cells.map(|run| self.blob(store, &run.pretrain_key(), blob::VIEWS));
            let Some(png) = pictures.find_map(Result::transpose).transpose()? else { continue };
            let title = if n_kinds == 1 { "every cell".to_owned() } else { names(experiment, &cells) };
            sheets.extend(pictures::fitted(title, png, bytes_max));
        }
        Ok(sheets)
    }

    /// Every run that has a value of the metric and the time of its training.
    pub fn spent(&self, metric: &str) -> Vec<Spent> {
        let done = self.rows.iter().filter(|row| row.is_of(metric) && row.status == Status::Done);
        done.filter_map(|row| Some(Spent { cell: row.cell as usize, train_s: row.train_s?, value: row.value? }))
            .collect()
    }

    /// Every encoder's value of the metric; none where no snapshot has one.
    pub fn evaluated(&self, metric: &str) -> Vec<Evaluated> {
        let done = || self.rows.iter().filter(|row| row.is_named(metric) && row.status == Status::Done);
        if !done().any(|row| row.encoder == EncoderKind::Snapshot) {
            return Vec::new();
        }
        let evaluated =
            |row: &Row| Some(Evaluated { cell: row.cell as usize, epoch: row.encoder_epoch?, value: row.value? });
        done().filter_map(evaluated).collect()
    }

    /// Who made what is told, and when; nothing of the moment the page is made at, so that one store makes one page.
    pub fn facts(&self) -> Vec<(String, String)> {
        let provenances = || self.records.values().map(|record| &record.provenance);
        let distinct = |of: &dyn Fn(&Record) -> String| -> String {
            let all: BTreeSet<String> = self.records.values().map(of).filter(|text| !text.is_empty()).collect();
            all.into_iter().collect::<Vec<_>>().join("; ")
        };
        let begun = provenances().map(|provenance| provenance.started_unix_s).min();
        let ended = provenances().map(|provenance| provenance.started_unix_s + provenance.seconds as u64).max();
        let spent: f64 = provenances().map(|provenance| provenance.seconds).sum();
        let mut facts = vec![("stored stages".to_owned(), self.records.len().to_string())];
        if let (Some(begun), Some(ended)) = (begun, ended) {
            facts.push(("computed".to_owned(), format!("{} to {}", date(begun), date(ended))));
            facts.push(("time of all stages".to_owned(), crate::explain::units::duration(spent)));
        }
        facts.extend([
            ("devices".to_owned(), distinct(&|record| record.provenance.device.trim().to_owned())),
            ("hosts".to_owned(), distinct(&|record| record.provenance.host.clone())),
            ("ablate".to_owned(), distinct(&|record| record.provenance.ablate_version.clone())),
            ("code".to_owned(), distinct(&|record| record.provenance.code.chars().take(12).collect())),
        ]);
        facts.retain(|(_, text)| !text.is_empty());
        facts
    }

    /// What the table does not say: results of several builds side by side, records that cannot be used. All results of one
    /// build are comparable, whichever program wrote the page.
    pub fn warnings(&self) -> Vec<String> {
        let codes: BTreeSet<&str> = self.records.values().map(|record| record.provenance.code.as_str()).collect();
        let mut warnings = Vec::new();
        if codes.len() > 1 {
            warnings.push(format!("results of {} of the program lie side by side", count(codes.len(), "build")));
        }
        if !self.damage.is_empty() {
            warnings.push(format!("{} cannot be used and counts as missing", count(self.damage.len(), "record")));
        }
        warnings
    }
}

/// Of every cell and seed the run on the backend that the rows are of.
fn chosen_runs<'a>(candidates: &[&'a Experiment], rows: &[Row]) -> Vec<Vec<&'a Run>> {
    let first = candidates.first().expect("an experiment on some backend");
    let mut backends = BTreeMap::new();
    for row in rows {
        backends.entry((row.cell as usize, row.seed)).or_insert(row.backend);
    }
    let of_cell = |cell: usize| {
        let run = |index: usize| {
            let backend = backends.get(&(cell, first.cells[cell].runs[index].seed));
            let runs = candidates.iter().map(|experiment| &experiment.cells[cell].runs[index]);
            let chosen = runs.clone().find(|run| Some(&run.backend) == backend);
            chosen.unwrap_or(&first.cells[cell].runs[index])
        };
        (0..first.cells[cell].runs.len()).map(run).collect()
    };
    (0..first.cells.len()).map(of_cell).collect()
}

/// The baseline and the cell with the highest mean, by their index.
fn telling_cells(grid: &Grid) -> Vec<usize> {
    let mut places: Vec<usize> = grid.baseline.into_iter().chain(grid.highest()).collect();
    places.dedup();
    places.into_iter().map(|place| grid.cells[place].index).collect()
}

/// The first rows of the features, their labels, and the width of a row.
fn features(bytes: &[u8], n: usize) -> Option<(Vec<f32>, Vec<u32>, usize)> {
    let tensors = SafeTensors::deserialize(bytes).ok()?;
    let (features, labels) = (tensors.tensor("features").ok()?, tensors.tensor("labels").ok()?);
    let (&[rows, width], &[n_labels]) = (features.shape(), labels.shape()) else { return None };
    if features.dtype() != Dtype::F32 || labels.dtype() != Dtype::U32 || rows != n_labels {
        return None;
    }
    let n = n.min(rows);
    let words = |bytes: &[u8], n: usize| -> Vec<[u8; 4]> {
        bytes.chunks_exact(4).take(n).map(|word| [word[0], word[1], word[2], word[3]]).collect()
    };
    let values = words(features.data(), n * width).into_iter().map(f32::from_le_bytes).collect();
    let labels = words(labels.data(), n).into_iter().map(u32::from_le_bytes).collect();
    Some((values, labels, width))
}

/// The cells' labels; the first of many.
fn names(experiment: &Experiment, cells: &[usize]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = cells.iter().take(SHOWN).map(|cell| experiment.cells[*cell].labels.join(", ")).collect();
    let more = if cells.len() > SHOWN { format!(" and {} more", cells.len() - SHOWN) } else { String::new() };
    shown.join("; ") + &more
}
