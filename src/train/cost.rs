//! Where the time of an epoch goes.

use std::time::Duration;

use crate::record::EpochCost;

/// Sums up the parts of every step, an epoch at a time.
#[derive(Debug)]
pub struct CostMeter {
    finished: Vec<EpochCost>,
    current: Option<Epoch>,
}

#[derive(Debug, Clone, Copy)]
struct Epoch {
    epoch: u32,
    steps: u64,
    images: u64,
    views_s: f64,
    gradient_s: f64,
    update_s: f64,
    total_s: f64,
}

impl Epoch {
    fn of(cost: &EpochCost) -> Epoch {
        let total_s = cost.seconds();
        Epoch {
            epoch: cost.epoch,
            steps: cost.steps,
            images: (cost.images_per_s * total_s).round() as u64,
            views_s: cost.views_s,
            gradient_s: cost.gradient_s,
            update_s: cost.update_s,
            total_s,
        }
    }

    fn images_per_s(&self) -> f64 {
        if self.total_s > 0.0 { self.images as f64 / self.total_s } else { 0.0 }
    }

    fn cost(&self) -> EpochCost {
        EpochCost {
            epoch: self.epoch,
            steps: self.steps,
            images_per_s: self.images_per_s(),
            views_s: self.views_s,
            gradient_s: self.gradient_s,
            update_s: self.update_s,
            other_s: (self.total_s - self.views_s - self.gradient_s - self.update_s).max(0.0),
        }
    }
}

impl CostMeter {
    /// Goes on behind the epochs a checkpoint knew, inside the last of them where it was cut.
    pub fn resume(mut epochs: Vec<EpochCost>) -> CostMeter {
        let current = epochs.pop().map(|cost| Epoch::of(&cost));
        CostMeter { finished: epochs, current }
    }

    /// Time of the current epoch that is none of a step's parts.
    pub fn add(&mut self, other: Duration) {
        if let Some(current) = &mut self.current {
            current.total_s += other.as_secs_f64();
        }
    }

    /// One step: views and gradient, the update, and everything.
    pub fn step(&mut self, epoch: u32, batch: u32, parts: [Duration; 2], update_s: f64, total: Duration) {
        let current = self.count(epoch, batch, 1, total);
        current.views_s += parts[0].as_secs_f64();
        current.gradient_s += parts[1].as_secs_f64();
        current.update_s += update_s;
    }

    /// `n` steps in one piece, whose parts nobody timed.
    pub fn steps(&mut self, epoch: u32, batch: u32, n: u64, total: Duration) {
        self.count(epoch, batch, n, total);
    }

    fn count(&mut self, epoch: u32, batch: u32, steps: u64, total: Duration) -> &mut Epoch {
        if self.current.is_some_and(|current| current.epoch != epoch) {
            self.finished.extend(self.current.take().map(|current| current.cost()));
        }
        let blank = Epoch { epoch, steps: 0, images: 0, views_s: 0.0, gradient_s: 0.0, update_s: 0.0, total_s: 0.0 };
        let current = self.current.get_or_insert(blank);
        current.steps += steps;
        current.images += steps * u64::from(batch);
        current.total_s += total.as_secs_f64();
        current
    }

    /// Pairs of views a second in the current epoch.
    pub fn images_per_s(&self) -> f64 {
        self.current.map_or(0.0, |current| current.images_per_s())
    }

    pub fn so_far(&self) -> Vec<EpochCost> {
        self.finished.iter().copied().chain(self.current.map(|current| current.cost())).collect()
    }

    pub fn finish(self) -> Vec<EpochCost> {
        self.so_far()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_the_sum_of_its_steps() {
        let mut meter = CostMeter::resume(Vec::new());
        let ms = Duration::from_millis;
        for (epoch, total) in [(0, 100), (0, 300), (1, 50)] {
            meter.step(epoch, 8, [ms(10), ms(20)], 0.005, ms(total));
        }
        let epochs = meter.finish();
        assert_eq!(epochs.iter().map(|cost| (cost.epoch, cost.steps)).collect::<Vec<_>>(), [(0, 2), (1, 1)]);
        assert!((epochs[0].images_per_s - 40.0).abs() < 1e-9);
        assert!((epochs[0].other_s - 0.33).abs() < 1e-9, "{epochs:?}");
        let mut resumed = CostMeter::resume(epochs);
        resumed.step(1, 8, [ms(10), ms(20)], 0.005, ms(50));
        let epochs = resumed.finish();
        assert_eq!(epochs.iter().map(|cost| (cost.epoch, cost.steps)).collect::<Vec<_>>(), [(0, 2), (1, 2)]);
        assert!((epochs[1].images_per_s - 160.0).abs() < 1e-6, "{epochs:?}");
    }
}
