//! A training's state as safetensors: torchvision's names, the optimizer's slots and the position.
//!
//! `backbone.conv1.weight` and its like load into PyTorch as they are; `optimizer.<slot>.<name>` and the position are
//! what a resumed run needs besides, a memory bank (`ablate.bank`) among it. A checkpoint kept on the way also carries the history so far, as the Parquet bytes
//! of the tensor `ablate.history`.

use crate::checkpoint::{self, Content, Position, Reader, Tensor};
use crate::executor::State;
use crate::history::{History, HistoryError};
use crate::model::plan::Plan;
use crate::record::EpochCost;

const HISTORY: &str = "ablate.history";
const BANK: &str = "ablate.bank";

/// A state and what belongs to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    pub state: State,
    pub epochs: Vec<EpochCost>,
    history_bytes: Option<Vec<u8>>,
}

fn numbers<'a>(name: String, shape: &[usize], values: &'a [f32]) -> Tensor<'a> {
    Tensor { name, shape: shape.to_vec(), content: Content::Numbers(values) }
}

/// Why bytes are not a checkpoint of a plan.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    File(#[from] checkpoint::CheckpointError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl Checkpoint {
    pub fn of(state: State) -> Checkpoint {
        Checkpoint { state, epochs: Vec::new(), history_bytes: None }
    }

    /// The state of an executor that `blank` is a state of: a snapshot, which has neither the optimizer's slots nor a memory
    /// bank, takes those of `blank`, and is fit for evaluation alone.
    pub fn filled(self, blank: &State) -> State {
        let mut state = self.state;
        if state.optimizer.is_empty() && state.bank.is_empty() {
            (state.optimizer, state.bank) = (blank.optimizer.clone(), blank.bank.clone());
        }
        state
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
        let mut tensors = Vec::new();
        for parameter in &plan.parameters {
            let (name, shape) = (&parameter.name, &parameter.shape);
            tensors.push(numbers(name.clone(), shape, &self.state.parameters[parameter.range()]));
            for (slot, values) in &self.state.optimizer {
                let name = format!("optimizer.{slot}.{name}");
                tensors.push(numbers(name, shape, &values[parameter.range()]));
            }
        }
        for buffer in &plan.buffers {
            let values = &self.state.buffers[buffer.offset..buffer.offset + buffer.len];
            tensors.push(numbers(buffer.name.clone(), &[buffer.len], values));
        }
        if !self.state.bank.is_empty() {
            tensors.push(numbers(BANK.to_owned(), &bank_shape(self.state.bank.len(), plan), &self.state.bank));
        }
        let position = Position {
            step: self.state.step,
            slots: self.state.optimizer.iter().map(|(name, _)| *name).collect(),
            epochs: if history.is_some() { self.epochs.clone() } else { Vec::new() },
        };
        if let Some(history) = history {
            let (name, shape) = (HISTORY.to_owned(), vec![history.len()]);
            tensors.push(Tensor { name, shape, content: Content::Bytes(history) });
        }
        Ok(checkpoint::write(&tensors, &position)?)
    }

    /// Reads what `to_bytes` and `to_bytes_with` write, for the same plan.
    pub fn from_bytes(bytes: &[u8], plan: &Plan) -> Result<Checkpoint, CheckpointError> {
        let reader = Reader::open(bytes)?;
        let mut parameters = vec![0.0; plan.n_parameters()];
        let slots = reader.position.slots.iter();
        let mut optimizer: Vec<(&'static str, Vec<f32>)> =
            slots.map(|slot| (*slot, vec![0.0; plan.n_parameters()])).collect();
        for parameter in &plan.parameters {
            reader.numbers(&parameter.name, &parameter.shape, &mut parameters[parameter.range()])?;
            for (slot, values) in &mut optimizer {
                let name = format!("optimizer.{slot}.{}", parameter.name);
                reader.numbers(&name, &parameter.shape, &mut values[parameter.range()])?;
            }
        }
        let mut buffers = vec![0.0; plan.n_buffers()];
        for buffer in &plan.buffers {
            let place = &mut buffers[buffer.offset..buffer.offset + buffer.len];
            reader.numbers(&buffer.name, &[buffer.len], place)?;
        }
        let bank = bank(&reader, plan)?;
        let state = State { parameters, buffers, optimizer, bank, step: reader.position.step };
        let history_bytes = reader.bytes(HISTORY)?.map(<[u8]>::to_vec);
        Ok(Checkpoint { state, epochs: reader.position.epochs, history_bytes })
    }
}

/// Rows × projection width.
fn bank_shape(len: usize, plan: &Plan) -> [usize; 2] {
    let width = plan.projection_width();
    [len / width.max(1), width]
}

/// The memory bank of the file; empty where there is none.
fn bank(reader: &Reader, plan: &Plan) -> Result<Vec<f32>, CheckpointError> {
    let shapes = reader.shapes();
    let Some((_, shape)) = shapes.iter().find(|(name, _)| name == BANK) else { return Ok(Vec::new()) };
    // The header was checked against the file's length, so that no shape asks for more than is there.
    let len = shape.iter().product();
    let mut bank = vec![0.0; len];
    reader.numbers(BANK, &bank_shape(len, plan), &mut bank)?;
    Ok(bank)
}
