//! Values of Lightly 1.6 and PyTorch 2.15: `tests/golden/losses.json`, made by `losses.py` beside it.

use serde::Deserialize;

use super::tests::{norm, pairs, unit};
use super::*;
use crate::ops::nt_xent::golden::{Probe, values_f32};

#[derive(Deserialize)]
pub struct Case {
    kind: String,
    normalize: Option<bool>,
    factor: Option<f64>,
    sigma: Option<f64>,
    margin: Option<f64>,
    semi_hard: Option<bool>,
    size: Option<u32>,
    bank_seed: Option<u64>,
    pub bank_sum: Option<f64>,
    pub n: usize,
    pub d: usize,
    pub temperature: f64,
    scale: f64,
    seed: u64,
    loss: f64,
    grad_view0: Probe,
    grad_view1: Probe,
}

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

impl Case {
    pub fn recipe(&self) -> Loss {
        let semi_hard = self.semi_hard.unwrap_or_default();
        match self.kind.as_str() {
            "NtXent" => Loss::NtXent { normalize: self.normalize.unwrap(), scale: self.factor.unwrap() },
            "NtXentMemoryBank" => Loss::NtXentMemoryBank { size: self.size.unwrap() },
            "Dcl" => Loss::Dcl,
            "Dclw" => Loss::Dclw { sigma: self.sigma.unwrap() },
            "NtLogistic" => Loss::NtLogistic { semi_hard },
            "MarginTriplet" => Loss::MarginTriplet { margin: self.margin.unwrap(), semi_hard },
            other => panic!("no loss is called {other}"),
        }
    }

    pub fn projections(&self) -> Vec<f32> {
        pairs(self.seed, self.n, self.d, self.scale)
    }

    pub fn bank(&self) -> Vec<f32> {
        let rows = self.bank_seed.map(|seed| values_f32(seed, self.size.unwrap() as usize * self.d, 1.0));
        unit(&rows.unwrap_or_default(), self.d)
    }

    pub fn check(&self, route: &str, loss: f64, gradient: &[f64], bound: f64) {
        let name = format!("{route}: {:?}, N {} D {} T {}", self.recipe(), self.n, self.d, self.temperature);
        let apart = (loss - self.loss).abs();
        assert!(apart <= bound * self.loss.abs().max(0.1), "{name}: loss {loss}, {} wanted", self.loss);
        let (first, second) = gradient.split_at(self.n * self.d);
        for (gradient, probe) in [(first, &self.grad_view0), (second, &self.grad_view1)] {
            let allowed = 10.0 * bound * probe.norm;
            assert!((norm(gradient) - probe.norm).abs() <= allowed, "{name}: norm {}, {}", norm(gradient), probe.norm);
            assert!((gradient.iter().sum::<f64>() - probe.sum).abs() <= allowed, "{name}: sum");
            for (&index, &value) in probe.index.iter().zip(&probe.value) {
                assert!((gradient[index] - value).abs() <= allowed, "{name}: {} at {index}, {value}", gradient[index]);
            }
        }
    }
}

pub fn golden() -> Vec<Case> {
    let golden: Golden = serde_json::from_str(include_str!("../../../tests/golden/losses.json")).unwrap();
    assert_eq!(golden.cases.len(), 43);
    golden.cases
}
