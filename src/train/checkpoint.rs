//! A training's state as safetensors: torchvision's names, the optimizer's slots and the position.
//!
//! `backbone.conv1.weight` and its like load into PyTorch as they are; `optimizer.<slot>.<name>` and the metadata entry
//! `ablate` (JSON: format, step, epochs) are what a resumed run needs besides. A checkpoint kept on the way also
//! carries the history so far, as the Parquet bytes of the tensor `ablate.history`.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::executor::State;
use crate::history::{History, HistoryError};
use crate::model::plan::Plan;
use crate::record::EpochCost;

const FORMAT: u32 = 1;
const METADATA: &str = "ablate";
const HISTORY: &str = "ablate.history";

/// A state and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub state: State,
    pub epochs: Vec<EpochCost>,
    history_bytes: Option<Vec<u8>>,
}

/// Why bytes are not a checkpoint of a plan.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("not a safetensors file: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    #[error("metadata entry `{METADATA}` is missing or unreadable: {0}")]
    Metadata(String),
    #[error("format {found}, this program reads {FORMAT}")]
    Format { found: u32 },
    #[error("tensor `{name}` is {problem}")]
    Tensor { name: String, problem: String },
    #[error(transparent)]
    History(#[from] HistoryError),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    format: u32,
    step: u64,
    slots: Vec<String>,
    epochs: Vec<EpochCost>,
}

/// The optimizer's slots by their only names.
const SLOTS: [&str; 3] = ["momentum", "first_moment", "second_moment"];

impl Checkpoint {
    pub fn of(state: State) -> Checkpoint {
        Checkpoint { state, epochs: Vec::new(), history_bytes: None }
    }

    /// With what the epochs so far cost.
    pub fn with_epochs(self, epochs: Vec<EpochCost>) -> Checkpoint {
        Checkpoint { epochs, ..self }
    }

    /// The history kept with it; empty when it carries none.
    pub fn history(&self) -> Result<History, HistoryError> {
        self.history_bytes.as_deref().map_or_else(|| Ok(History::default()), History::from_parquet)
    }

    /// The finished state, without history: the same state gives the same bytes.
    pub fn to_bytes(&self, plan: &Plan) -> Result<Vec<u8>, CheckpointError> {
        self.serialize(plan, None)
    }

    /// With the history so far, to resume from.
    pub fn to_bytes_with(&self, history: &History, plan: &Plan) -> Result<Vec<u8>, CheckpointError> {
        self.serialize(plan, Some(&history.to_parquet()?))
    }

    fn serialize(&self, plan: &Plan, history: Option<&[u8]>) -> Result<Vec<u8>, CheckpointError> {
        let mut tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = Vec::new();
        for parameter in &plan.parameters {
            let bytes = |values: &[f32]| little_endian(&values[parameter.range()]);
            tensors.push((parameter.name.clone(), Dtype::F32, parameter.shape.clone(), bytes(&self.state.parameters)));
            for (slot, values) in &self.state.optimizer {
                let name = format!("optimizer.{slot}.{}", parameter.name);
                tensors.push((name, Dtype::F32, parameter.shape.clone(), bytes(values)));
            }
        }
        for buffer in &plan.buffers {
            let values = &self.state.buffers[buffer.offset..buffer.offset + buffer.len];
            tensors.push((buffer.name.clone(), Dtype::F32, vec![buffer.len], little_endian(values)));
        }
        if let Some(history) = history {
            tensors.push((HISTORY.to_owned(), Dtype::U8, vec![history.len()], history.to_vec()));
        }
        let metadata = Metadata {
            format: FORMAT,
            step: self.state.step,
            slots: self.state.optimizer.iter().map(|(name, _)| (*name).to_owned()).collect(),
            epochs: if history.is_some() { self.epochs.clone() } else { Vec::new() },
        };
        let text = serde_json::to_string(&metadata).map_err(|error| CheckpointError::Metadata(error.to_string()))?;
        let views: Vec<_> = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name.as_str(), TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<_, safetensors::SafeTensorError>>()?;
        // One entry only: the map's order would otherwise change the bytes from run to run.
        Ok(safetensors::serialize(views, Some(HashMap::from([(METADATA.to_owned(), text)])))?)
    }

    /// Reads what `to_bytes` and `to_bytes_with` write, for the same plan.
    pub fn from_bytes(bytes: &[u8], plan: &Plan) -> Result<Checkpoint, CheckpointError> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let text = header.metadata().as_ref().and_then(|map| map.get(METADATA));
        let text = text.ok_or_else(|| CheckpointError::Metadata("no such entry".to_owned()))?;
        let metadata: Metadata =
            serde_json::from_str(text).map_err(|error| CheckpointError::Metadata(error.to_string()))?;
        if metadata.format != FORMAT {
            return Err(CheckpointError::Format { found: metadata.format });
        }
        let file = SafeTensors::deserialize(bytes)?;
        let mut parameters = vec![0.0; plan.n_parameters()];
        let mut optimizer: Vec<(&'static str, Vec<f32>)> = Vec::new();
        for slot in &metadata.slots {
            let known = SLOTS.into_iter().find(|known| known == slot);
            let known = known.ok_or_else(|| CheckpointError::Metadata(format!("unknown optimizer slot `{slot}`")))?;
            optimizer.push((known, vec![0.0; plan.n_parameters()]));
        }
        for parameter in &plan.parameters {
            read_f32(&file, &parameter.name, &parameter.shape, &mut parameters[parameter.range()])?;
            for (slot, values) in &mut optimizer {
                let name = format!("optimizer.{slot}.{}", parameter.name);
                read_f32(&file, &name, &parameter.shape, &mut values[parameter.range()])?;
            }
        }
        let mut buffers = vec![0.0; plan.n_buffers()];
        for buffer in &plan.buffers {
            let place = &mut buffers[buffer.offset..buffer.offset + buffer.len];
            read_f32(&file, &buffer.name, &[buffer.len], place)?;
        }
        let state = State { parameters, buffers, optimizer, step: metadata.step };
        let history_bytes = file.tensor(HISTORY).ok().map(|tensor| tensor.data().to_vec());
        Ok(Checkpoint { state, epochs: metadata.epochs, history_bytes })
    }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn read_f32(file: &SafeTensors, name: &str, shape: &[usize], out: &mut [f32]) -> Result<(), CheckpointError> {
    let refused = |problem: String| CheckpointError::Tensor { name: name.to_owned(), problem };
    let tensor = file.tensor(name).map_err(|_| refused("missing".to_owned()))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
        return Err(refused(format!("{found}, expected F32 {shape:?}")));
    }
    for (value, bytes) in out.iter_mut().zip(tensor.data().chunks_exact(4)) {
        *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Ok(())
}
