//! The batches of a training: each is made while the executor computes with the one before it.

use std::time::{Duration, Instant};

use crate::data::LabelledImages;
use crate::device::Pool;
use crate::views::Pipeline;

/// Which images a batch is made of: (examples in order, epoch).
pub type Asked<'a> = (&'a [u32], u32);

#[derive(Default)]
struct Batch {
    views: Vec<f32>,
    /// Of every image, where the loss looks at them.
    labels: Vec<u32>,
}

/// Where batches come from: the one at hand and the one being made.
pub struct Supply<'a> {
    data: &'a LabelledImages,
    pipeline: &'a Pipeline,
    pool: &'a Pool,
    with_labels: bool,
    at_hand: Batch,
    next: Batch,
}

impl<'a> Supply<'a> {
    /// With the first batch at hand.
    pub fn new(
        data: &'a LabelledImages,
        pipeline: &'a Pipeline,
        pool: &'a Pool,
        with_labels: bool,
        first: Asked,
    ) -> Supply<'a> {
        let mut supply =
            Supply { data, pipeline, pool, with_labels, at_hand: Batch::default(), next: Batch::default() };
        supply.maker().make(first, &mut supply.at_hand);
        supply
    }

    /// Has `work` compute with the views and labels at hand while those of `next` are made, which are at hand then. Beside its
    /// result: how long it was waited for them.
    pub fn step<R>(&mut self, next: Option<Asked>, work: impl FnOnce(&[f32], &[u32]) -> R) -> (R, Duration) {
        let maker = self.maker();
        let Batch { views, labels } = &self.at_hand;
        let making = &mut self.next;
        let done = std::thread::scope(|scope| {
            let making = next.map(|next| scope.spawn(move || maker.make(next, making)));
            let result = work(views, labels);
            let waiting = Instant::now();
            if let Some(Err(panic)) = making.map(std::thread::ScopedJoinHandle::join) {
                std::panic::resume_unwind(panic);
            }
            (result, waiting.elapsed())
        });
        std::mem::swap(&mut self.at_hand, &mut self.next);
        done
    }

    /// The labels that the last [`Supply::step`] had at hand.
    pub fn labels_behind(&self) -> &[u32] {
        &self.next.labels
    }

    fn maker(&self) -> Maker<'a> {
        Maker { data: self.data, pipeline: self.pipeline, pool: self.pool, with_labels: self.with_labels }
    }
}

#[derive(Clone, Copy)]
struct Maker<'a> {
    data: &'a LabelledImages,
    pipeline: &'a Pipeline,
    pool: &'a Pool,
    with_labels: bool,
}

impl Maker<'_> {
    fn make(&self, (examples, epoch): Asked, batch: &mut Batch) {
        let Batch { views, labels } = batch;
        views.resize(2 * examples.len() * self.pipeline.view_len(), 0.0);
        self.pipeline.batch(&self.data.images, examples, epoch, self.pool, views);
        labels.clear();
        if self.with_labels {
            labels.extend(examples.iter().map(|&example| self.data.labels[example as usize]));
        }
    }
}
