//! Dense products by cublasLt, each by one deterministic algorithm that is chosen before anything runs, not by timing.

use std::collections::BTreeMap;

use cudarc::driver::sys::CUstream;

use crate::device::cuda::column_major::{Problem, description, problem};
use crate::device::cuda::cublaslt::{Handle, Multiplication, Places};
use crate::device::gpu::{Address, GpuError, Product};

/// What a product may use; a fixed number, for which algorithms can be chosen depends on it.
pub const WORKSPACE_BYTES: usize = 32 << 20;

/// The products of a device. It belongs to the thread and the context it was made in.
pub struct Products {
    handle: Handle,
    prepared: BTreeMap<Problem, Prepared>,
}

struct Prepared {
    /// In the words of the first product that was like this.
    description: String,
    multiplication: Multiplication,
}

impl Products {
    /// # Errors
    /// When cublasLt or a device is not there.
    pub fn new() -> Result<Products, GpuError> {
        Ok(Products { handle: Handle::new()?, prepared: BTreeMap::new() })
    }

    /// Chooses the algorithm of a product: the first deterministic one in the heuristic's order. Products of the same
    /// sizes, strides, elements and alignment share it, whether they accumulate or not.
    ///
    /// # Errors
    /// `NoPlan` when there is none.
    pub fn prepare(&mut self, product: &Product) -> Result<(), GpuError> {
        let problem = problem(product)?;
        if self.prepared.contains_key(&problem) {
            return Ok(());
        }
        let description = description(product);
        let refused = |error: GpuError| GpuError::NoPlan(format!("{description}: {error}"));
        let chosen = self.handle.choose(&problem, WORKSPACE_BYTES).map_err(refused)?;
        let multiplication = chosen.ok_or_else(|| GpuError::NoPlan(description.clone()))?;
        self.prepared.insert(problem, Prepared { description, multiplication });
        Ok(())
    }

    /// What a product needs at most.
    pub fn workspace_bytes(&self) -> usize {
        WORKSPACE_BYTES
    }

    /// Hands a prepared product to a live stream of this device, which may be captured. `workspace` has
    /// [`Products::workspace_bytes`] that nothing else uses meanwhile.
    ///
    /// # Errors
    /// When the product was not prepared, a place is none, or the library refuses.
    pub fn execute(&mut self, product: &Product, workspace: Address, stream: CUstream) -> Result<(), GpuError> {
        let refused =
            |reason: &str| GpuError::Call { call: "product", reason: format!("{} {reason}", description(product)) };
        let prepared = self.prepared.get(&problem(product)?).ok_or_else(|| refused("was not prepared"))?;
        let places =
            Places { first: product.b.address, second: product.a.address, result: product.c.address, workspace };
        if [places.first, places.second, places.result, workspace].contains(&Address::NONE) {
            return Err(refused("has no place"));
        }
        self.handle.multiply(&prepared.multiplication, places, product.accumulate, stream)
    }

    /// What was chosen so far: sizes in words, and the algorithm's configuration as JSON.
    pub fn choices(&self) -> Vec<(String, String)> {
        let written = |prepared: &Prepared| {
            let json = serde_json::to_string(&prepared.multiplication.configuration);
            (prepared.description.clone(), json.expect("numbers are JSON"))
        };
        self.prepared.values().map(written).collect()
    }
}

#[cfg(test)]
mod tests;
