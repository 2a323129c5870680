//! A plan lock as a file: the choices, and where and when they were made, which is outside their digest.

use serde::{Deserialize, Serialize};

use crate::device::cuda::libraries::{self, Library};
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::gpu::GpuError;

const FORMAT: u32 = 1;

/// What choices are good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The GPU's name as its driver tells it.
    pub gpu: String,
    /// cuDNN's version: engines and knobs mean the same to no other.
    pub cudnn: String,
    /// The driver's release, or the CUDA version that it supports; another one is no reason to refuse.
    pub driver: String,
}

impl Machine {
    /// The GPU of that number with this machine's libraries.
    ///
    /// # Errors
    /// `Library` when one of them or the GPU is missing.
    pub fn here(ordinal: usize) -> Result<Machine, GpuError> {
        libraries::load(&Library::ALL)?;
        Ok(Machine::of(super::device(ordinal)?.name, &libraries::versions()))
    }

    /// `versions`: as [`libraries::versions`] tells them.
    fn of(gpu: String, versions: &[(String, String)]) -> Machine {
        let version = |name: &str| versions.iter().find(|(known, _)| known == name).map(|(_, version)| version.clone());
        Machine {
            gpu,
            cudnn: version(Library::Cudnn.name()).unwrap_or_default(),
            driver: version("NVIDIA kernel module").or_else(|| version(Library::Driver.name())).unwrap_or_default(),
        }
    }
}

/// A lock and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanFile {
    format: u32,
    pub machine: Machine,
    /// When something was last timed, in seconds since 1970 in UTC.
    pub tuned_unix_s: u64,
    pub choices: PlanLock,
}

/// Why a file is no lock for this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanFileError {
    #[error("is not a plan lock: {0}")]
    Unreadable(String),
    #[error("is a plan lock of format {found}, this program reads {FORMAT}")]
    Format { found: u32 },
    #[error(
        "holds plans for {} with cuDNN {}, but this is {} with cuDNN {}: `--tune` with another `--results` folder makes \
        plans for it",
        tuned.gpu,
        tuned.cudnn,
        here.gpu,
        here.cudnn
    )]
    OtherMachine { tuned: Box<Machine>, here: Box<Machine> },
}

/// The one field that every format has.
#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl PlanFile {
    pub fn new(machine: Machine, tuned_unix_s: u64, choices: PlanLock) -> PlanFile {
        PlanFile { format: FORMAT, machine, tuned_unix_s, choices }
    }

    /// # Errors
    /// `Unreadable` or `Format`.
    pub fn from_json(text: &str) -> Result<PlanFile, PlanFileError> {
        let unreadable = |error: serde_json::Error| PlanFileError::Unreadable(error.to_string());
        let Head { format } = serde_json::from_str(text).map_err(unreadable)?;
        if format != FORMAT {
            return Err(PlanFileError::Format { found: format });
        }
        serde_json::from_str(text).map_err(unreadable)
    }

    /// A convolution a few lines, so that two files can be compared by eye.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("maps of text and numbers are JSON") + "\n"
    }

    /// # Errors
    /// `OtherMachine` when GPU or cuDNN are not those that the choices were made for.
    pub fn check(&self, here: &Machine) -> Result<(), PlanFileError> {
        if (&self.machine.gpu, &self.machine.cudnn) == (&here.gpu, &here.cudnn) {
            return Ok(());
        }
        let (tuned, here) = (Box::new(self.machine.clone()), Box::new(here.clone()));
        Err(PlanFileError::OtherMachine { tuned, here })
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, PlanFile, PlanFileError};
    use crate::device::cuda::plan_lock::{EngineChoice, PlanLock};

    fn versions() -> Vec<(String, String)> {
        let known = [("CUDA driver", "13.2"), ("NVIDIA kernel module", "595.71.05"), ("cuDNN", "9.26.0")];
        known.map(|(name, version)| (name.to_owned(), version.to_owned())).to_vec()
    }

    fn machine() -> Machine {
        Machine::of("NVIDIA H200".to_owned(), &versions())
    }

    fn file() -> PlanFile {
        let choice = EngineChoice { engine: 62, knobs: [(10, -1), (2, 7)].into() };
        let name = "convolution 8x4x4x8 -> 8 3x3 s1 p1 f32 forward".to_owned();
        PlanFile::new(machine(), 1_764_000_000, PlanLock { choices: [(name, choice)].into() })
    }

    #[test]
    fn a_file_comes_back_whole_and_says_where_it_is_from() {
        let text = file().to_json();
        for expected in ["NVIDIA H200", "9.26.0", "595.71.05", "1764000000", "8x4x4x8"] {
            assert!(text.contains(expected), "`{expected}` is not in\n{text}");
        }
        assert_eq!(PlanFile::from_json(&text), Ok(file()));
        let without_module = Machine::of("NVIDIA H200".to_owned(), &[versions()[0].clone(), versions()[2].clone()]);
        assert_eq!(without_module.driver, "13.2");
    }

    #[test]
    fn the_digest_is_of_the_choices_alone() {
        let mut other = file();
        other.machine.driver = "600.1".to_owned();
        other.tuned_unix_s += 1;
        assert_ne!(other.to_json(), file().to_json());
        assert_eq!(other.choices.digest(), file().choices.digest());
        other.choices.choices.clear();
        assert_ne!(other.choices.digest(), file().choices.digest());
    }

    #[test]
    fn another_gpu_or_cudnn_is_refused_and_another_driver_is_not() {
        let changed = |change: fn(&mut Machine)| {
            let mut here = machine();
            change(&mut here);
            file().check(&here).map_err(|error| error.to_string())
        };
        assert_eq!(changed(|_| ()), Ok(()));
        assert_eq!(changed(|here| here.driver.push('9')), Ok(()));
        let gpu = changed(|here| "NVIDIA A100".clone_into(&mut here.gpu)).expect_err("another GPU");
        assert!(gpu.starts_with("holds plans for NVIDIA H200 with cuDNN 9.26.0, but this is NVIDIA A100"), "{gpu}");
        let cudnn = changed(|here| "9.27.0".clone_into(&mut here.cudnn)).expect_err("another cuDNN");
        assert!(cudnn.contains("this is NVIDIA H200 with cuDNN 9.27.0"), "{cudnn}");
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        for text in ["", "{", "[]", r#"{"format": 1}"#, r#"{"convolution": {"engine": 1, "knobs": {}}}"#] {
            assert!(matches!(PlanFile::from_json(text), Err(PlanFileError::Unreadable(_))), "{text}");
        }
        let later = file().to_json().replace("\"format\": 1", "\"format\": 2");
        assert_eq!(PlanFile::from_json(&later), Err(PlanFileError::Format { found: 2 }));
        let more = file().to_json().replace("\"engine\": 62", "\"engine\": 62, \"speed\": 3");
        assert!(matches!(PlanFile::from_json(&more), Err(PlanFileError::Unreadable(_))), "{more}");
    }
}
