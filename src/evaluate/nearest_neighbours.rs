//! Weighted k-nearest-neighbour vote (Wu et al. 2018, section 3.4): the k nearest images of the bank each give their
//! class a weight, exp(cos/T) or 1/(distance + 1e-5), or one vote each, and the classes are ranked by their sums.
//!
//! Neighbours are found tile by tile; a query keeps a short list of candidates, never a row of all similarities.
//! Of equally near images the one with the lower index is nearer.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::device::Pool;
use crate::device::gpu::{Gpu, GpuError};
use crate::evaluate::cuda::nearest;
use crate::evaluate::neighbour::Neighbour;
use crate::evaluate::{Features, Ranking};
use crate::experiment::recipe::{Knn, Metric, Vote};
use crate::ops::gemm::{Matrix, product};
use crate::ops::nt_xent::{dot, normalize, squared_distance};

/// Queries a block: the rows of a tile.
const BLOCK_QUERIES: usize = 128;
/// Images of the bank a tile.
const TILE_IMAGES: usize = 512;
/// Added to a distance before it is inverted (solo-learn).
const DISTANCE_EPSILON: f64 = 1e-5;
/// Numbers looked at together.
const LANES: usize = 16;

/// Ranks the classes of every query, in order. `knn.k` is cut to 1..= the size of the bank.
pub fn classify(bank: &Features, queries: &Features, n_classes: usize, knn: &Knn, pool: &Pool) -> Vec<Ranking> {
    pool.install(|| {
        let space = Space::of(bank, queries, knn.metric);
        space.search(n_classes, knn).classify(&space.queries)
    })
}

/// As [`classify`], where the neighbours are found by a device that has loaded [`nearest::SOURCE`]; the vote is the
/// processor's.
///
/// # Errors
/// The device's, and for more neighbours than [`nearest::NEIGHBOURS_MAX`].
pub fn classify_on_device(
    gpu: &mut dyn Gpu,
    bank: &Features,
    queries: &Features,
    n_classes: usize,
    knn: &Knn,
    pool: &Pool,
) -> Result<Vec<Ranking>, GpuError> {
    let space = pool.install(|| Space::of(bank, queries, knn.metric));
    let found = nearest::nearest(
        &nearest::Search {
            bank: &space.bank.values,
            offsets: space.offsets.as_deref(),
            queries: &space.queries.values,
            width: bank.width,
            k: n_neighbours(knn, bank),
        },
        gpu,
    )?;
    let search = space.search(n_classes, knn);
    Ok(pool.install(|| {
        let queries = space.queries.values.par_chunks_exact(bank.width).zip(&found);
        queries.map(|(query, nearest)| search.vote(query, nearest)).collect()
    }))
}

/// How many images of the bank vote: `knn.k`, cut to 1..= the size of the bank.
pub fn n_neighbours(knn: &Knn, bank: &Features) -> usize {
    (knn.k as usize).clamp(1, bank.len().max(1))
}

/// Bank and queries as a metric sees them.
struct Space<'a> {
    bank: Cow<'a, Features>,
    queries: Cow<'a, Features>,
    /// ½‖b‖² of every image, where distances are asked for.
    offsets: Option<Vec<f32>>,
}

impl<'a> Space<'a> {
    fn of(bank: &'a Features, queries: &'a Features, metric: Metric) -> Space<'a> {
        match metric {
            Metric::Cosine => {
                Space { bank: Cow::Owned(normalized(bank)), queries: Cow::Owned(normalized(queries)), offsets: None }
            }
            Metric::Euclidean => {
                let halves = bank.values.par_chunks_exact(bank.width).map(|row| (0.5 * dot(row, row)) as f32).collect();
                Space { bank: Cow::Borrowed(bank), queries: Cow::Borrowed(queries), offsets: Some(halves) }
            }
        }
    }

    fn search<'s>(&'s self, n_classes: usize, knn: &'s Knn) -> Search<'s> {
        Search { bank: &self.bank, offsets: self.offsets.as_deref(), n_classes, knn }
    }
}

fn normalized(features: &Features) -> Features {
    let mut values = vec![0.0; features.values.len()];
    let rows = features.values.par_chunks_exact(features.width).zip(values.par_chunks_exact_mut(features.width));
    rows.for_each(|(row, unit)| {
        normalize(row, unit);
    });
    Features { values, width: features.width, labels: features.labels.clone() }
}

/// The nearest images so far, at most `capacity` of which `k` count.
struct Nearest {
    k: usize,
    candidates: Vec<Neighbour>,
    /// Only what is nearer can still be among the k nearest: images come in the order of their index.
    threshold: f32,
}

impl Nearest {
    fn new(k: usize) -> Nearest {
        Nearest { k, candidates: Vec::with_capacity(Nearest::capacity(k)), threshold: f32::NEG_INFINITY }
    }

    fn capacity(k: usize) -> usize {
        2 * k + 64
    }

    /// Takes the nearness of the images from `first` on.
    fn add(&mut self, first: usize, nearnesses: &[f32]) {
        for (piece, lanes) in nearnesses.chunks(LANES).enumerate() {
            if !lanes.iter().fold(false, |any, &nearness| any | (nearness > self.threshold)) {
                continue;
            }
            for (lane, &nearness) in lanes.iter().enumerate() {
                if nearness > self.threshold {
                    self.push(Neighbour { nearness, image: (first + piece * LANES + lane) as u32 });
                }
            }
        }
    }

    fn push(&mut self, candidate: Neighbour) {
        self.candidates.push(candidate);
        if self.candidates.len() == Nearest::capacity(self.k) {
            self.shrink();
        }
    }

    fn shrink(&mut self) {
        if self.candidates.len() <= self.k {
            return;
        }
        let (_, last, _) = self.candidates.select_nth_unstable_by(self.k - 1, Neighbour::order);
        self.threshold = last.nearness;
        self.candidates.truncate(self.k);
    }

    /// The k nearest, nearest first.
    fn finish(&mut self) -> &[Neighbour] {
        self.shrink();
        self.candidates.sort_unstable_by(Neighbour::order);
        &self.candidates
    }
}

struct Search<'a> {
    bank: &'a Features,
    /// ½‖b‖² of every image, where distances are asked for.
    offsets: Option<&'a [f32]>,
    n_classes: usize,
    knn: &'a Knn,
}

impl Search<'_> {
    fn classify(&self, queries: &Features) -> Vec<Ranking> {
        let blocks = queries.values.par_chunks(BLOCK_QUERIES * queries.width);
        let rankings: Vec<Vec<Ranking>> = blocks.map(|block| self.classify_block(block)).collect();
        rankings.concat()
    }

    fn classify_block(&self, queries: &[f32]) -> Vec<Ranking> {
        let (width, n_bank) = (self.bank.width, self.bank.len());
        let n_queries = queries.len() / width;
        let k = n_neighbours(self.knn, self.bank);
        let mut nearest: Vec<Nearest> = (0..n_queries).map(|_| Nearest::new(k)).collect();
        let mut tile = vec![0.0; n_queries * TILE_IMAGES.min(n_bank)];
        for first in (0..n_bank).step_by(TILE_IMAGES) {
            let images = first..n_bank.min(first + TILE_IMAGES);
            let tile = &mut tile[..n_queries * images.len()];
            let rows = Matrix::dense(&self.bank.values[images.start * width..images.end * width], images.len(), width);
            product(Matrix::dense(queries, n_queries, width), rows.transposed(), tile);
            for (row, nearest) in tile.chunks_exact_mut(images.len()).zip(&mut nearest) {
                if let Some(offsets) = self.offsets {
                    row.iter_mut().zip(&offsets[images.clone()]).for_each(|(product, &offset)| *product -= offset);
                }
                nearest.add(first, row);
            }
        }
        let queries = queries.chunks_exact(width).zip(&mut nearest);
        queries.map(|(query, nearest)| self.vote(query, nearest.finish())).collect()
    }

    /// Sums the weights, nearest first. Cosine weights are taken relative to the nearest, so that no temperature overflows.
    fn vote(&self, query: &[f32], nearest: &[Neighbour]) -> Ranking {
        let mut scores = vec![0.0f64; self.n_classes];
        let largest = nearest.first().map_or(0.0, |candidate| f64::from(candidate.nearness));
        for candidate in nearest {
            let image = candidate.image as usize;
            let weight = match (self.knn.vote, self.knn.metric) {
                (Vote::Majority, Metric::Cosine | Metric::Euclidean) => 1.0,
                (Vote::Weighted, Metric::Cosine) => {
                    libm::exp((f64::from(candidate.nearness) - largest) / self.knn.temperature)
                }
                (Vote::Weighted, Metric::Euclidean) => {
                    1.0 / (squared_distance(query, self.row(image)).sqrt() + DISTANCE_EPSILON)
                }
            };
            scores[self.bank.labels[image] as usize] += weight;
        }
        Ranking::of_scores(&scores)
    }

    fn row(&self, image: usize) -> &[f32] {
        &self.bank.values[image * self.bank.width..][..self.bank.width]
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::ops::nt_xent::golden::{values, values_f32};

    #[derive(Deserialize)]
    struct Case {
        n_bank: usize,
        n_query: usize,
        dim: usize,
        classes: usize,
        k: u32,
        temperature: f64,
        seeds: [u64; 3],
        noise_scale: f64,
        prediction: Vec<u16>,
    }

    /// Lightly 1.6, `knn_predict`.
    #[test]
    fn agrees_with_lightly() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/golden/knn.json")).unwrap();
        assert_eq!(cases.len(), 2);
        for case in cases {
            let centres = values(case.seeds[0], case.classes * case.dim, 1.0);
            let around = |seed: u64, n: usize| {
                let noise = values(seed, n * case.dim, case.noise_scale);
                let centre = |index: usize| centres[index / case.dim % case.classes * case.dim + index % case.dim];
                let values = noise.iter().enumerate().map(|(index, noise)| (noise + centre(index)) as f32).collect();
                let labels = (0..n).map(|row| (row % case.classes) as u32).collect();
                Features { values, width: case.dim, labels }
            };
            let (bank, queries) = (around(case.seeds[1], case.n_bank), around(case.seeds[2], case.n_query));
            let knn = Knn { k: case.k, temperature: case.temperature, metric: Metric::Cosine, ..Knn::DEFAULT };
            let rankings = classify(&bank, &queries, case.classes, &knn, &Pool::new(2));
            let found: Vec<u16> = rankings.iter().map(Ranking::first).collect();
            assert_eq!(found, case.prediction, "{} images in the bank", case.n_bank);
        }
    }

    /// Five directions worked out by hand: k and the temperature both turn the answer.
    #[test]
    fn votes_in_the_plane() {
        let bank = Features {
            values: vec![1.0, 0.0, 1.0, 0.2, 0.0, 1.0, -0.2, 1.0, 1.0, 1.0],
            width: 2,
            labels: vec![0, 0, 1, 1, 2],
        };
        let query = Features { values: vec![1.0, 0.9], width: 2, labels: vec![0] };
        let check = |k: u32, temperature: f64, expected: &[u16]| {
            let knn = Knn { k, temperature, metric: Metric::Cosine, ..Knn::DEFAULT };
            let found = classify(&bank, &query, 3, &knn, &Pool::new(1));
            assert_eq!(found[0].classes(), expected, "k {k} T {temperature}");
        };
        check(1, 0.1, &[2, 0, 1]);
        check(3, 0.1, &[2, 0, 1]);
        check(3, 0.5, &[0, 2, 1]);
        check(5, 0.5, &[0, 2, 1]);
        check(5, 0.07, &[2, 0, 1]);
        check(5, 1e-5, &[2, 0, 1]);
        check(1000, 0.5, &[0, 2, 1]);
    }

    fn noise(seed: u64, n: usize, width: usize, n_classes: u32) -> Features {
        let labels = (0..n as u32).map(|row| row * 7919 % n_classes).collect();
        Features { values: values_f32(seed, n * width, 1.0), width, labels }
    }

    /// Every distance, a full sort and the vote, in f64.
    fn brute_force(bank: &Features, query: &[f32], n_classes: usize, knn: &Knn) -> Ranking {
        let weight = |row: &[f32]| match knn.metric {
            Metric::Cosine => {
                let cosine = dot(row, query) / (dot(row, row) * dot(query, query)).sqrt();
                (cosine / knn.temperature).exp()
            }
            Metric::Euclidean => 1.0 / (squared_distance(row, query).sqrt() + 1e-5),
        };
        let mut weights: Vec<(f64, u32)> =
            bank.values.chunks_exact(bank.width).map(weight).zip(bank.labels.iter().copied()).collect();
        weights.sort_by(|left, right| right.0.total_cmp(&left.0));
        let mut scores = vec![0.0; n_classes];
        weights.iter().take(knn.k as usize).for_each(|&(weight, label)| scores[label as usize] += weight);
        Ranking::of_scores(&scores)
    }

    #[test]
    fn agrees_with_brute_force() {
        let (bank, queries) = (noise(1, 1300, 20, 7), noise(2, 150, 20, 7));
        for metric in [Metric::Cosine, Metric::Euclidean] {
            for k in [1, 5, 200, 1300] {
                let knn = Knn { k, temperature: 0.1, metric, ..Knn::DEFAULT };
                let found = classify(&bank, &queries, 7, &knn, &Pool::new(1));
                assert_eq!(found.len(), 150);
                for (found, query) in found.iter().zip(queries.values.chunks_exact(20)) {
                    assert_eq!(*found, brute_force(&bank, query, 7, &knn), "{knn:?}");
                }
                for threads in [2, 3] {
                    assert_eq!(found, classify(&bank, &queries, 7, &knn, &Pool::new(threads)));
                }
            }
        }
    }

    /// A bank of one image many times over: the first k of it vote, of equal sums the lower class wins.
    #[test]
    fn the_lower_index_is_nearer_among_equals() {
        let labels = (0..1500).map(|row| if row < 30 { 3 } else { 1 }).collect();
        let bank = Features { values: [0.6, 0.8].repeat(1500), width: 2, labels };
        let query = Features { values: vec![1.0, 1.0], width: 2, labels: vec![0] };
        for metric in [Metric::Cosine, Metric::Euclidean] {
            let first = |k: u32| {
                classify(&bank, &query, 4, &Knn { k, temperature: 0.1, metric, ..Knn::DEFAULT }, &Pool::new(1))[0]
                    .first()
            };
            assert_eq!((first(1), first(30), first(59), first(60), first(61)), (3, 3, 3, 1, 1), "{metric:?}");
        }
    }

    #[test]
    fn zero_vectors_and_an_exact_match() {
        let bank = Features { values: vec![0.0, 0.0, 3.0, 4.0, 3.0, 4.1], width: 2, labels: vec![0, 1, 2] };
        let queries = Features { values: vec![0.0, 0.0, 3.0, 4.0], width: 2, labels: vec![0, 1] };
        let knn = Knn { k: 3, temperature: 0.1, metric: Metric::Euclidean, ..Knn::DEFAULT };
        let found = classify(&bank, &queries, 3, &knn, &Pool::new(1));
        assert_eq!([found[0].classes(), found[1].classes()], [&[0u16, 1, 2], &[1u16, 2, 0]]);
    }
}
