//! The learning rate of a step: peak rate × multiplier of the schedule.

use std::f64::consts::PI;

use crate::experiment::recipe::{LearningRate, Schedule, WarmupForm};

/// What the peak rate is multiplied by at `step`, counted from 0, of `length_steps`.
pub fn multiplier(schedule: &Schedule, step: u64, length_steps: u64) -> f64 {
    match *schedule {
        Schedule::Constant => 1.0,
        Schedule::Cosine => half_cosine(step, length_steps),
        Schedule::WarmupCosine { warmup_steps, form } if step < warmup_steps => match form {
            WarmupForm::Lightly { .. } => (step + 1) as f64 / warmup_steps as f64,
            WarmupForm::Google => step as f64 / warmup_steps as f64,
        },
        Schedule::WarmupCosine { warmup_steps, form } => {
            let (after, length) = (step - warmup_steps, length_steps.saturating_sub(warmup_steps));
            match form {
                WarmupForm::Lightly { end } if after + 1 >= length => end,
                WarmupForm::Lightly { end } => end + (1.0 - end) * half_cosine(after, length - 1),
                WarmupForm::Google => half_cosine(after, length),
            }
        }
    }
}

/// The learning rate of `step`: base rate, scaled by the batch, times the schedule's multiplier.
pub fn learning_rate(rate: &LearningRate, schedule: &Schedule, batch: u32, step: u64, length_steps: u64) -> f64 {
    rate.peak(batch) * multiplier(schedule, step, length_steps)
}

/// ½(1 + cos(π·step/length)); 0 from `length` on.
fn half_cosine(step: u64, length: u64) -> f64 {
    if step >= length { 0.0 } else { 0.5 * (1.0 + libm::cos(PI * step as f64 / length as f64)) }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::experiment::recipe::Scaling;

    #[derive(Deserialize)]
    struct Case {
        warmup_steps: u64,
        total_steps: u64,
        multiplier: Vec<f64>,
    }

    /// Lightly 1.6, `cosine_warmup_schedule` with end value 0.
    #[test]
    fn agrees_with_lightly() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/golden/schedules.json")).unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            let form = WarmupForm::Lightly { end: 0.0 };
            let schedule = Schedule::WarmupCosine { warmup_steps: case.warmup_steps, form };
            for (step, expected) in (0..).zip(&case.multiplier) {
                let found = multiplier(&schedule, step, case.total_steps);
                assert!((found - expected).abs() < 1e-9, "step {step} of {}: {found}", case.total_steps);
            }
        }
    }

    #[test]
    fn both_warm_ups_over_a_hundred_steps() {
        let check = |form, table: &[(u64, f64)]| {
            for &(step, expected) in table {
                let found = multiplier(&Schedule::WarmupCosine { warmup_steps: 10, form }, step, 100);
                assert!((found - expected).abs() < 1e-9, "step {step}: {found}, {expected} wanted");
            }
        };
        check(
            WarmupForm::Lightly { end: 0.001 },
            &[(0, 0.1), (9, 1.0), (10, 1.0), (11, 0.999688843), (54, 0.509315416), (98, 0.001311157), (99, 0.001)],
        );
        check(
            WarmupForm::Google,
            &[(0, 0.0), (9, 0.9), (10, 1.0), (11, 0.999695414), (55, 0.5), (98, 0.001217975), (99, 0.000304586)],
        );
    }

    /// PyTorch's `CosineAnnealingLR` with T_max 200.
    #[test]
    fn constant_and_cosine() {
        for (step, expected) in [(0, 1.0), (1, 0.999938316), (100, 0.5), (199, 0.000061684), (200, 0.0)] {
            assert!((multiplier(&Schedule::Cosine, step, 200) - expected).abs() < 1e-9);
            assert_eq!(multiplier(&Schedule::Constant, step, 200), 1.0);
        }
    }

    /// A warm-up as long as the run or longer, and runs of no or one step.
    #[test]
    fn short_runs_stay_finite() {
        for form in [WarmupForm::Lightly { end: 0.5 }, WarmupForm::Google] {
            for (warmup_steps, length, step) in [(0, 0, 0), (0, 1, 0), (5, 5, 4), (5, 5, 5), (9, 5, 4), (4, 5, 4)] {
                let found = multiplier(&Schedule::WarmupCosine { warmup_steps, form }, step, length);
                assert!((0.0..=1.0).contains(&found), "{form:?} {warmup_steps} {length} {step}: {found}");
            }
        }
        assert_eq!(multiplier(&Schedule::Cosine, 0, 0), 0.0);
    }

    #[test]
    fn the_peak_follows_the_batch() {
        let check = |scaling, expected: f64| {
            let rate = LearningRate { base: 0.3, scaling };
            let found = learning_rate(&rate, &Schedule::Cosine, 1024, 5, 10);
            assert!((found - expected).abs() < 1e-12, "{scaling:?}: {found}");
        };
        check(Scaling::None, 0.15);
        check(Scaling::Linear { per: 256 }, 0.6);
        check(Scaling::Sqrt, 4.8);
    }
}
