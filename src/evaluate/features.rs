//! Frozen encoder outputs: the bank from the training images, the queries from the test images.

use crate::data::{Dataset, Images, LabelledImages};
use crate::device::Pool;
use crate::evaluate::Features;
use crate::executor::{Executor, ExecutorError};
use crate::experiment::run::Run;
use crate::views::Pipeline;

/// Images a call of the executor.
const CHUNK: usize = 512;

/// Features of both parts in evaluation mode: no augmentation, running statistics. `go_on` is asked before every chunk;
/// none when it says no.
///
/// # Errors
/// The executor's.
pub fn extract(
    run: &Run,
    dataset: &Dataset,
    executor: &mut dyn Executor,
    pool: &Pool,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<[Features; 2]>, ExecutorError> {
    let mut of = |part| of_part(run, part, executor, pool, go_on);
    let (bank, queries) = (of(&dataset.train)?, of(&dataset.test)?);
    Ok(bank.zip(queries).map(|(bank, queries)| [bank, queries]))
}

/// As [`extract`], of one part.
///
/// # Errors
/// The executor's.
pub fn of_part(
    run: &Run,
    part: &LabelledImages,
    executor: &mut dyn Executor,
    pool: &Pool,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Features>, ExecutorError> {
    let pipeline = Pipeline::new(&run.views, run.model.side as usize, run.seed);
    let width = executor.plan().feature_width();
    if let Some(resident) = executor.resident() {
        let values = resident.features_of(&part.images, &pipeline, go_on)?;
        return Ok(values.map(|values| Features { values, width, labels: part.labels.clone() }));
    }
    let mut values = Vec::with_capacity(part.labels.len() * width);
    let mut images = Vec::new();
    for start in (0..part.labels.len()).step_by(CHUNK) {
        if !go_on() {
            return Ok(None);
        }
        let range = start..(start + CHUNK).min(part.labels.len());
        images.resize(range.len() * pipeline.view_len(), 0.0);
        pipeline.evaluation_batch(&part.images, range, pool, &mut images);
        values.extend(executor.features(&images)?);
    }
    Ok(Some(Features { values, width, labels: part.labels.clone() }))
}

/// Backbone features, in evaluation mode, of one view of each of `examples`, of the epoch and number in `place`: n × feature
/// width. The processor makes the views for every executor. `go_on` is asked before every chunk; none when it says no.
///
/// # Errors
/// The executor's.
pub fn of_views(
    (images, examples): (&Images, &[u32]),
    pipeline: &Pipeline,
    place: (u32, u8),
    executor: &mut dyn Executor,
    pool: &Pool,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<f32>>, ExecutorError> {
    let mut values = Vec::with_capacity(examples.len() * executor.plan().feature_width());
    let mut views = Vec::new();
    for chunk in examples.chunks(CHUNK) {
        if !go_on() {
            return Ok(None);
        }
        views.resize(chunk.len() * pipeline.view_len(), 0.0);
        pipeline.views(images, chunk, place, pool, &mut views);
        values.extend(executor.features(&views)?);
    }
    Ok(Some(values))
}

/// The first `n` features and labels as safetensors (`features` n×width f32, `labels` n u32), for maps of a report.
pub fn to_safetensors(features: &Features, n: usize) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    use safetensors::tensor::{Dtype, TensorView};
    let n = n.min(features.labels.len());
    let values: Vec<u8> = features.values[..n * features.width].iter().flat_map(|value| value.to_le_bytes()).collect();
    let labels: Vec<u8> = features.labels[..n].iter().flat_map(|label| label.to_le_bytes()).collect();
    let tensors = [
        ("features", TensorView::new(Dtype::F32, vec![n, features.width], &values)?),
        ("labels", TensorView::new(Dtype::U32, vec![n], &labels)?),
    ];
    safetensors::serialize(tensors, None)
}
