//! From a finished stage to the record the store keeps of it.

use crate::content::Key;
use crate::device;
use crate::evaluate::answer::Answer;
use crate::experiment;
use crate::experiment::run::{Asked, Run};
use crate::model::plan::Plan;
use crate::ops::contrastive::loss_ratio;
use crate::record::{self, Record, Snapshot, Stage, blob};
use crate::runner::Runner;
use crate::runner::provenance::Begun;
use crate::train::Trained;

/// The record's text.
pub fn body(runner: &Runner, key: Key, stage: Stage, begun: Begun) -> String {
    let record =
        Record { format: record::FORMAT, key, stage, provenance: runner.origin.provenance(begun, runner.gpu.get()) };
    serde_json::to_string_pretty(&record).expect("a record is plain data")
}

pub fn pretrain(run: &Run, trained: &Trained, plan: &Plan) -> record::Pretrain {
    let steps = &trained.history.steps;
    let mean_loss = |epoch: u32| {
        let losses: Vec<f64> = steps.iter().filter(|step| step.epoch == epoch).map(|step| step.loss).collect();
        losses.iter().sum::<f64>() / losses.len() as f64
    };
    let snapshot = |step| Snapshot { step, epoch: run.epoch_of(step), blob: blob::snapshot(step) };
    let last = steps.last().map(|step| mean_loss(step.epoch));
    record::Pretrain {
        n_parameters: plan.n_trained() as u64,
        steps: run.train.length_steps,
        loss_first_epoch: steps.first().map(|step| mean_loss(step.epoch)),
        loss_last_epoch: last,
        loss_ratio: last.and_then(|loss| loss_ratio(run.train.loss, loss, 2 * run.train.batch as usize)),
        epochs: trained.epochs.clone(),
        snapshots: run.snapshots().into_iter().map(snapshot).collect(),
        peak_memory_bytes: device::process_bytes("VmHWM"),
    }
}

pub fn evaluation(run: &Run, asked: Asked, answer: &Answer, checkpoint: Key, begun: Begun) -> record::Evaluation {
    let told_apart = answer.told_apart.as_ref();
    record::Evaluation {
        pretrain: run.pretrain_key(),
        checkpoint,
        kind: experiment::kind(asked.evaluation).to_owned(),
        protocol: Some(experiment::protocol_of(run, asked.evaluation, asked.encoder())),
        metrics: answer.metrics.clone(),
        per_class_top1: told_apart.map(|told| told.per_class_top1.clone()).unwrap_or_default(),
        class_names: answer.class_names.clone(),
        n_test: answer.n_test,
        notes: answer.notes.clone(),
        seconds: begun.seconds(),
    }
}
