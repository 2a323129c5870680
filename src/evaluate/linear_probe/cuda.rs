//! The linear probe on a GPU: the bank stays on the device, one recorded step is replayed, the host only shuffles.
//!
//! The recipe is the processor's, number for number but for the order of sums. A row of features is followed by a 1, so
//! that one product gives logits with their bias, and one the gradient of both. A batch that is smaller than the others is
//! filled up with rows of zeros, which no gradient sees.

use std::ops::Range;

use crate::device::Pool;
use crate::device::gpu::{
    Address, Element, Gpu, GpuError, Matrix, Node, Product, Source, bytes_of_f32, bytes_of_u32, f32_of_bytes,
};
use crate::evaluate::linear_probe::{Classifier, RATE_BATCH, Standardization};
use crate::evaluate::{EvaluateError, Features, Part, Ranking, check};
use crate::experiment::recipe::{LinearProbe, Schedule};
use crate::ops::kernels::{float, int, launch, pointer};
use crate::ops::schedule::multiplier;
use crate::random::{self, Purpose, Stream};

/// To be loaded before [`classify`]; its kernels know floats alone, so any way of storing will do.
pub const SOURCE: Source = Source { name: "linear_probe", text: include_str!("kernel.cu") };

/// Rows that go to the device, and logits that come back, at a time.
const TRANSFER_ROWS: usize = 4096;
/// Rows of features and of logits begin at multiples of so many numbers.
const QUAD: usize = 4;

/// As the processor's `classify`, on a device that has loaded [`SOURCE`]: trains on `bank` and ranks the classes of every
/// query, in order. Needs the device's memory for the bank and little more. `pool` standardises.
///
/// # Errors
/// The device's; where features are not finite or do not fit each other or the classes; when the weights did not stay finite.
pub fn classify(
    gpu: &mut dyn Gpu,
    bank: &Features,
    queries: &Features,
    n_classes: usize,
    probe: &LinearProbe,
    pool: &Pool,
) -> Result<Vec<Ranking>, EvaluateError> {
    for (part, features) in [(Part::Bank, bank), (Part::Queries, queries)] {
        check(part, features, u32::try_from(n_classes).unwrap_or(u32::MAX))?;
    }
    if bank.width != queries.width {
        return Err(EvaluateError::Width { bank: bank.width, queries: queries.width });
    }
    let sizes = Sizes::new(bank, queries, n_classes, probe);
    on_device(gpu, sizes, |gpu, places| {
        let (scale, bank) = pool.install(|| {
            let scale = Standardization::of(bank);
            let bank = scale.apply(bank);
            (scale, bank)
        });
        let training = Training { sizes, places, probe };
        training.run(gpu, &bank)?;
        if !training.classifier(gpu)?.is_finite() {
            return Err(EvaluateError::Diverged { learning_rate: probe.learning_rate });
        }
        drop(bank);
        training.rank(gpu, &pool.install(|| scale.apply(queries)))
    })
}

/// The weights after training on features that are standardised already.
///
/// # Errors
/// The device's.
#[cfg(test)]
pub(super) fn train(
    gpu: &mut dyn Gpu,
    bank: &Features,
    n_classes: usize,
    probe: &LinearProbe,
) -> Result<Classifier, EvaluateError> {
    let sizes = Sizes::new(bank, bank, n_classes, probe);
    on_device(gpu, sizes, |gpu, places| {
        let training = Training { sizes, places, probe };
        training.run(gpu, bank)?;
        Ok(training.classifier(gpu)?)
    })
}

/// Gives `work` its places and takes them back, whatever comes of it.
fn on_device<T>(
    gpu: &mut dyn Gpu,
    sizes: Sizes,
    work: impl FnOnce(&mut dyn Gpu, Places) -> Result<T, EvaluateError>,
) -> Result<T, EvaluateError> {
    let (_, bytes) = Places::from(sizes, Address(0));
    let base = gpu.allocate(bytes)?;
    let result = work(gpu, Places::from(sizes, base).0);
    let released = gpu.release(base);
    let result = result?;
    released?;
    Ok(result)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    /// Rows of the bank.
    n: usize,
    batch: usize,
    width: usize,
    /// Numbers from one row of features to the next: width, 1, zeros.
    padded: usize,
    n_classes: usize,
    /// Numbers from one row of logits to the next.
    class_stride: usize,
    /// Queries a product.
    query_rows: usize,
    steps_an_epoch: usize,
    n_steps: usize,
}

impl Sizes {
    fn new(bank: &Features, queries: &Features, n_classes: usize, probe: &LinearProbe) -> Sizes {
        let n = bank.len();
        let batch = (probe.batch as usize).clamp(1, n.max(1));
        let steps_an_epoch = n.div_ceil(batch);
        Sizes {
            n,
            batch,
            width: bank.width,
            padded: (bank.width + 1).next_multiple_of(QUAD),
            n_classes,
            class_stride: n_classes.next_multiple_of(QUAD),
            query_rows: queries.len().min(TRANSFER_ROWS),
            steps_an_epoch,
            n_steps: probe.epochs as usize * steps_an_epoch,
        }
    }

    fn weights(&self) -> usize {
        self.n_classes * self.padded
    }
}

/// Where things lie, all in one allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Places {
    /// n × padded.
    bank: Address,
    /// n of u32.
    labels: Address,
    /// n of u32: the epoch's permutation.
    order: Address,
    /// A float a step.
    rates: Address,
    /// u64: steps done.
    step: Address,
    /// Two floats about the step: learning rate, inverse of its number of rows.
    current: Address,
    /// The batch, or queries: rows × padded.
    rows: Address,
    /// The batch's labels, i32.
    row_labels: Address,
    /// Rows × class_stride: logits, then errors.
    logits: Address,
    /// classes × padded.
    weights: Address,
    momentum: Address,
    gradient: Address,
}

impl Places {
    /// With how many bytes that takes from `base` on.
    fn from(sizes: Sizes, base: Address) -> (Places, usize) {
        let mut end = 0;
        let mut words = |n: usize| {
            let place = base.offset(end);
            end += (4 * n).next_multiple_of(256);
            place
        };
        let rows = sizes.batch.max(sizes.query_rows);
        let places = Places {
            bank: words(sizes.n * sizes.padded),
            labels: words(sizes.n),
            order: words(sizes.n),
            rates: words(sizes.n_steps),
            step: words(2),
            current: words(2),
            rows: words(rows * sizes.padded),
            row_labels: words(sizes.batch),
            logits: words(rows * sizes.class_stride),
            weights: words(sizes.weights()),
            momentum: words(sizes.weights()),
            gradient: words(sizes.weights()),
        };
        (places, end)
    }
}

struct Training<'a> {
    sizes: Sizes,
    places: Places,
    probe: &'a LinearProbe,
}

impl Training<'_> {
    /// From zeros, as the memory comes, to the last epoch's weights; `bank` is standardised.
    fn run(&self, gpu: &mut dyn Gpu, bank: &Features) -> Result<(), EvaluateError> {
        let Training { sizes, places, probe } = self;
        if sizes.n_steps == 0 {
            return Ok(());
        }
        for start in (0..sizes.n).step_by(TRANSFER_ROWS) {
            let rows = start..sizes.n.min(start + TRANSFER_ROWS);
            gpu.upload(places.bank.offset(4 * start * sizes.padded), &self.padded_rows(bank, rows))?;
        }
        gpu.upload(places.labels, &bytes_of_u32(&bank.labels))?;
        let peak = probe.learning_rate * f64::from(probe.batch) / RATE_BATCH;
        let n_steps = sizes.n_steps as u64;
        let rate = |step: u64| (peak * multiplier(&Schedule::Cosine, step, n_steps)) as f32;
        gpu.upload(places.rates, &bytes_of_f32(&(0..n_steps).map(rate).collect::<Vec<f32>>()))?;
        let nodes = self.step();
        gpu.prepare(&nodes)?;
        // What a driver loads at its first use must be there before the recording: one step, taken back.
        gpu.run(&nodes)?;
        let bytes = 4 * sizes.weights();
        let kept = [(places.step, 8), (places.weights, bytes), (places.momentum, bytes)];
        gpu.run(&kept.map(|(address, bytes)| Node::Zero { address, bytes }))?;
        let step = gpu.record(&nodes)?;
        for epoch in 0..probe.epochs {
            let place = random::Address { epoch, ..random::Address::of(Purpose::LinearProbe) };
            let order = Stream::new(probe.seed, place).permutation(sizes.n as u32);
            gpu.upload(places.order, &bytes_of_u32(&order))?;
            for _ in 0..sizes.steps_an_epoch {
                gpu.replay(step)?;
            }
        }
        Ok(())
    }

    /// What one step does, whichever it is.
    fn step(&self) -> Vec<Node> {
        let Training { sizes, places, probe } = self;
        let inputs = [places.bank, places.labels, places.order, places.rates, places.step].map(pointer);
        let lengths = [sizes.n, sizes.batch, sizes.steps_an_epoch, sizes.padded / QUAD].map(int);
        let outputs = [places.rows, places.row_labels, places.current].map(pointer);
        let gather = [&inputs[..], &lengths, &outputs].concat();
        let lengths = [sizes.batch, sizes.n_classes, sizes.class_stride].map(int);
        let errors = [&[places.logits, places.row_labels].map(pointer)[..], &lengths].concat();
        let mut descend = [places.weights, places.momentum, places.gradient, places.current].map(pointer).to_vec();
        descend.extend([sizes.weights(), sizes.padded, sizes.width].map(int));
        descend.extend([float(probe.momentum as f32), float(probe.weight_decay as f32), pointer(places.step)]);
        vec![
            launch("linear_probe_gather", [sizes.batch, 1, 1], [128, 1, 1], gather),
            self.logits(sizes.batch),
            launch("linear_probe_errors", [sizes.batch.div_ceil(8), 1, 1], [256, 1, 1], errors),
            self.gradient(),
            launch("linear_probe_descend", [sizes.weights().div_ceil(256), 1, 1], [256, 1, 1], descend),
        ]
    }

    /// Of the first `n_rows` of `rows`.
    fn logits(&self, n_rows: usize) -> Node {
        Node::Product(Product {
            m: n_rows,
            n: self.sizes.n_classes,
            k: self.sizes.padded,
            a: matrix(self.places.rows, self.sizes.padded),
            a_transposed: false,
            b: matrix(self.places.weights, self.sizes.padded),
            b_transposed: true,
            c: matrix(self.places.logits, self.sizes.class_stride),
            accumulate: false,
        })
    }

    /// Summed over the batch.
    fn gradient(&self) -> Node {
        Node::Product(Product {
            m: self.sizes.n_classes,
            n: self.sizes.padded,
            k: self.sizes.batch,
            a: matrix(self.places.logits, self.sizes.class_stride),
            a_transposed: true,
            b: matrix(self.places.rows, self.sizes.padded),
            b_transposed: false,
            c: matrix(self.places.gradient, self.sizes.padded),
            accumulate: false,
        })
    }

    /// The weights as they are now.
    fn classifier(&self, gpu: &mut dyn Gpu) -> Result<Classifier, GpuError> {
        let Sizes { width, padded, n_classes, .. } = self.sizes;
        let mut bytes = vec![0; 4 * self.sizes.weights()];
        gpu.download(self.places.weights, &mut bytes)?;
        let values = f32_of_bytes(&bytes);
        let mut classifier = Classifier::zeros(n_classes, width);
        let into = classifier.weights.chunks_exact_mut(width).zip(&mut classifier.bias);
        for (row, (weights, bias)) in values.chunks_exact(padded).zip(into) {
            weights.copy_from_slice(&row[..width]);
            *bias = row[width];
        }
        Ok(classifier)
    }

    /// `queries` are standardised.
    fn rank(&self, gpu: &mut dyn Gpu, queries: &Features) -> Result<Vec<Ranking>, EvaluateError> {
        let Sizes { n_classes, class_stride, query_rows, .. } = self.sizes;
        let nodes = [self.logits(query_rows)];
        gpu.prepare(&nodes)?;
        let mut rankings = Vec::with_capacity(queries.len());
        let mut bytes = vec![0; 4 * query_rows * class_stride];
        for start in (0..queries.len()).step_by(query_rows) {
            // Behind the last queries stand rows of before, whose logits nobody reads.
            let rows = start..queries.len().min(start + query_rows);
            let n_rows = rows.len();
            gpu.upload(self.places.rows, &self.padded_rows(queries, rows))?;
            gpu.run(&nodes)?;
            gpu.download(self.places.logits, &mut bytes)?;
            let logits = f32_of_bytes(&bytes);
            let of_rows = logits.chunks_exact(class_stride).take(n_rows);
            rankings.extend(of_rows.map(|logits| Ranking::of_scores(&logits[..n_classes])));
        }
        Ok(rankings)
    }

    /// Bytes of rows as the device holds them.
    fn padded_rows(&self, features: &Features, rows: Range<usize>) -> Vec<u8> {
        let Sizes { width, padded, .. } = self.sizes;
        let mut values = vec![0.0; rows.len() * padded];
        let from = features.values[rows.start * width..rows.end * width].chunks_exact(width);
        for (row, from) in values.chunks_exact_mut(padded).zip(from) {
            row[..width].copy_from_slice(from);
            row[width] = 1.0;
        }
        bytes_of_f32(&values)
    }
}

fn matrix(address: Address, stride: usize) -> Matrix {
    Matrix { address, element: Element::F32, stride }
}
