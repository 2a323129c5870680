//! What is recorded beside a result because it cannot be in its key.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::device;
use crate::device::gpu::Properties;
use crate::experiment::recipe::Backend;
use crate::record::Provenance;

/// Who computes: fixed for a member of a sweep.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    pub backend: Backend,
    /// Which GPU, from 0.
    pub device: usize,
    pub threads: u32,
    /// Runs computed at the same time, which share the device.
    pub jobs: u32,
    pub host: String,
    pub command: String,
}

/// When a stage began.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    unix_s: u64,
    instant: Instant,
}

impl Begun {
    pub fn now() -> Begun {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Begun { unix_s, instant: Instant::now() }
    }

    pub fn seconds(&self) -> f64 {
        self.instant.elapsed().as_secs_f64()
    }
}

/// The digest of this program's source, taken when it was built.
pub fn code_digest() -> &'static str {
    env!("ABLATE_CODE_DIGEST")
}

impl Origin {
    /// The provenance of a stage that ends now.
    pub fn provenance(&self, begun: Begun, gpu: Option<&Properties>) -> Provenance {
        let mut details = BTreeMap::from([
            ("instruction_sets".to_owned(), device::instruction_sets()),
            ("target".to_owned(), format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)),
        ]);
        if self.jobs > 1 {
            details.insert("jobs".to_owned(), self.jobs.to_string());
        }
        if let Some(gpu) = gpu {
            details.insert("processor".to_owned(), device::processor_name());
            details.insert("gpu_architecture".to_owned(), gpu.architecture.clone());
            details.extend(gpu.versions.iter().cloned());
        }
        Provenance {
            ablate_version: env!("CARGO_PKG_VERSION").to_owned(),
            code: code_digest().to_owned(),
            backend: self.backend.name().to_owned(),
            device: gpu.map_or_else(device::processor_name, |gpu| gpu.name.clone()),
            details,
            threads: self.threads,
            host: self.host.clone(),
            started_unix_s: begun.unix_s,
            seconds: begun.seconds(),
            command: self.command.clone(),
        }
    }
}
