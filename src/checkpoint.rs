//! A training's state as a file: numbers by name and where the training stood, in safetensors.
//!
//! The metadata entry `ablate` (JSON: format, step, slots, epochs) says the position; tensors are named as their caller
//! names them. Which of them a plan needs is the caller's to ask: a reader hands a tensor out only in the shape and kind
//! that is asked for, and only finite numbers, so that a damaged or forged weight never becomes a result.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};

use crate::record::EpochCost;

const FORMAT: u32 = 1;
const METADATA: &str = "ablate";

/// The optimizer's slots by their only names.
const SLOTS: [&str; 3] = ["momentum", "first_moment", "second_moment"];

/// Why bytes are not a checkpoint, or not the one that is asked for.
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
}

/// Where a training stood.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Position {
    /// Updates done so far.
    pub step: u64,
    /// The optimizer's slots that the file holds, none of them twice.
    pub slots: Vec<&'static str>,
    /// What the epochs so far cost.
    pub epochs: Vec<EpochCost>,
}

/// A tensor to write.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<'a> {
    pub name: String,
    pub shape: Vec<usize>,
    pub content: Content<'a>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Content<'a> {
    Numbers(&'a [f32]),
    /// Another file inside this one.
    Bytes(&'a [u8]),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    format: u32,
    step: u64,
    slots: Vec<String>,
    epochs: Vec<EpochCost>,
}

/// The same tensors and position give the same bytes.
///
/// # Errors
/// On a shape that is not its content's and on a name that comes twice.
pub fn write(tensors: &[Tensor], position: &Position) -> Result<Vec<u8>, CheckpointError> {
    let metadata = Metadata {
        format: FORMAT,
        step: position.step,
        slots: position.slots.iter().map(|name| (*name).to_owned()).collect(),
        epochs: position.epochs.clone(),
    };
    let text = serde_json::to_string(&metadata).map_err(|error| CheckpointError::Metadata(error.to_string()))?;
    let encoded: Vec<(Dtype, Cow<[u8]>)> = tensors.iter().map(|tensor| encoded(tensor.content)).collect();
    let mut names = BTreeSet::new();
    let mut views = Vec::new();
    for (tensor, (dtype, bytes)) in tensors.iter().zip(&encoded) {
        if !names.insert(&tensor.name) {
            let problem = "given twice".to_owned();
            return Err(CheckpointError::Tensor { name: tensor.name.clone(), problem });
        }
        views.push((tensor.name.as_str(), TensorView::new(*dtype, tensor.shape.clone(), bytes)?));
    }
    // One entry only: the map's order would otherwise change the bytes from run to run.
    Ok(safetensors::serialize(views, Some(HashMap::from([(METADATA.to_owned(), text)])))?)
}

fn encoded(content: Content<'_>) -> (Dtype, Cow<'_, [u8]>) {
    match content {
        Content::Numbers(values) => (Dtype::F32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Content::Bytes(bytes) => (Dtype::U8, Cow::Borrowed(bytes)),
    }
}

/// A file whose header is sound: every tensor lies inside it and is as long as its shape says.
#[derive(Debug)]
pub struct Reader<'a> {
    file: SafeTensors<'a>,
    pub position: Position,
}

impl<'a> Reader<'a> {
    /// # Errors
    /// On what is no safetensors file and on metadata that this program did not write.
    pub fn open(bytes: &'a [u8]) -> Result<Reader<'a>, CheckpointError> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let text = header.metadata().as_ref().and_then(|map| map.get(METADATA));
        let text = text.ok_or_else(|| CheckpointError::Metadata("no such entry".to_owned()))?;
        let metadata: Metadata =
            serde_json::from_str(text).map_err(|error| CheckpointError::Metadata(error.to_string()))?;
        if metadata.format != FORMAT {
            return Err(CheckpointError::Format { found: metadata.format });
        }
        let position = Position { step: metadata.step, slots: slots(&metadata.slots)?, epochs: metadata.epochs };
        Ok(Reader { file: SafeTensors::deserialize(bytes)?, position })
    }

    /// Names and shapes of all tensors, in the order of their names.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let mut shapes: Vec<(String, Vec<usize>)> =
            self.file.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape().to_vec())).collect();
        shapes.sort_unstable();
        shapes
    }

    /// Fills `out` with the numbers of a tensor of that shape.
    ///
    /// # Errors
    /// When it is missing, of another shape or kind, or holds a number that is not finite.
    pub fn numbers(&self, name: &str, shape: &[usize], out: &mut [f32]) -> Result<(), CheckpointError> {
        let refused = |problem: String| CheckpointError::Tensor { name: name.to_owned(), problem };
        let tensor = self.file.tensor(name).map_err(|_| refused("missing".to_owned()))?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != shape || tensor.data().len() != out.len() * 4 {
            let found = format!("{:?} {:?}", tensor.dtype(), tensor.shape());
            return Err(refused(format!("{found}, expected F32 {shape:?}")));
        }
        for (index, (value, bytes)) in out.iter_mut().zip(tensor.data().chunks_exact(4)).enumerate() {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if !value.is_finite() {
                return Err(refused(format!("{value} at element {index}, expected finite numbers")));
            }
        }
        Ok(())
    }

    /// The bytes of a file inside this one; none where there is no tensor of that name.
    ///
    /// # Errors
    /// When the tensor is not plain bytes.
    pub fn bytes(&self, name: &str) -> Result<Option<&'a [u8]>, CheckpointError> {
        let Ok(tensor) = self.file.tensor(name) else { return Ok(None) };
        if tensor.dtype() != Dtype::U8 || tensor.shape().len() != 1 {
            let problem = format!("{:?} {:?}, expected U8 of one dimension", tensor.dtype(), tensor.shape());
            return Err(CheckpointError::Tensor { name: name.to_owned(), problem });
        }
        Ok(Some(tensor.data()))
    }
}

/// Each slot costs as much memory as all parameters, so none is believed twice.
fn slots(names: &[String]) -> Result<Vec<&'static str>, CheckpointError> {
    let mut slots: Vec<&'static str> = Vec::new();
    for name in names {
        let known = SLOTS.into_iter().find(|known| known == name);
        let known = known.ok_or_else(|| {
            CheckpointError::Metadata(format!("unknown optimizer slot `{name}`, expected one of {}", SLOTS.join(", ")))
        })?;
        if slots.contains(&known) {
            return Err(CheckpointError::Metadata(format!("optimizer slot `{name}` is given twice")));
        }
        slots.push(known);
    }
    Ok(slots)
}
