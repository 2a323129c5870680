//! Losses of triples of an anchor, its positive and a negative: NT-Logistic and the margin triplet, over all triples or the
//! semi-hard ones.

use crate::ops::contrastive::mean;
use crate::ops::contrastive::pairs::Pairs;
use crate::ops::nt_xent::{exponential, softplus};

#[derive(Debug, Clone, Copy)]
enum Rule {
    Logistic { inverse_temperature: f32 },
    Margin { margin: f64 },
}

/// What an anchor's row came to so far.
#[derive(Debug, Clone, Copy)]
struct Row {
    positive: f32,
    /// Over the negatives: softplus(s/T), or max(s − s(i,p(i)) + m, 0).
    sum: f64,
    /// Negatives within the margin.
    n_within: u32,
    /// The semi-hard negative and its similarity.
    chosen: Option<(usize, f32)>,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    positive: f32,
    term: f64,
    /// −∂term/∂s(i,p(i)).
    pull: f32,
    /// The semi-hard negative v and ∂term/∂s(i,v).
    push: Option<(usize, f32)>,
}

#[derive(Debug)]
pub struct Triples {
    rule: Rule,
    semi_hard: bool,
    pairs: Pairs,
    rows: Vec<Row>,
    anchors: Vec<Anchor>,
}

impl Triples {
    fn new(rule: Rule, semi_hard: bool, n_views: usize, width: usize) -> Triples {
        let pairs = Pairs::new(true, n_views, width);
        Triples { rule, semi_hard, pairs, rows: Vec::with_capacity(n_views), anchors: Vec::with_capacity(n_views) }
    }

    pub fn logistic(temperature: f32, semi_hard: bool, n_views: usize, width: usize) -> Triples {
        Triples::new(Rule::Logistic { inverse_temperature: 1.0 / temperature }, semi_hard, n_views, width)
    }

    pub fn margin(margin: f64, semi_hard: bool, n_views: usize, width: usize) -> Triples {
        Triples::new(Rule::Margin { margin }, semi_hard, n_views, width)
    }

    pub fn forward_backward(&mut self, projections: &[f32], gradient: &mut [f32]) -> f32 {
        let (rule, semi_hard) = (self.rule, self.semi_hard);
        self.pairs.take(projections);
        self.rows.clear();
        let blank = |&positive: &f32| Row { positive, sum: 0.0, n_within: 0, chosen: None };
        self.rows.extend(self.pairs.positives().iter().map(blank));
        self.pairs.visit(&mut self.rows, |stretch, similarities, row| {
            for places in stretch.other_view() {
                let first = stretch.columns.start + places.start;
                if semi_hard {
                    rule.choose(first, &similarities[places], row);
                } else {
                    rule.add(&similarities[places], row);
                }
            }
        });
        let n_negatives = self.rows.len() / 2 - 1;
        self.anchors.clear();
        self.anchors.extend(self.rows.iter().map(|row| rule.anchor(row, semi_hard, n_negatives)));
        let anchors = &self.anchors;
        self.pairs.gradient(gradient, 1.0 / anchors.len() as f64, |stretch, weights| {
            let negatives = stretch.other_view();
            if semi_hard {
                weights.fill(0.0);
                for places in negatives {
                    push_chosen(anchors, stretch.anchor, stretch.columns.start, places, weights);
                }
            } else {
                let own = anchors[stretch.anchor].positive;
                weights[..negatives[0].start].fill(0.0);
                weights[negatives[1].end..].fill(0.0);
                for places in negatives {
                    let others = &anchors[stretch.columns.start + places.start..][..places.len()];
                    for (weight, other) in weights[places].iter_mut().zip(others) {
                        *weight = rule.slope(*weight, own, other.positive) / n_negatives as f32;
                    }
                }
            }
            let positive = stretch.positive();
            if let Some(place) = stretch.place(positive) {
                weights[place] = -(anchors[stretch.anchor].pull + anchors[positive].pull);
            }
        });
        mean(self.anchors.iter().map(|anchor| anchor.term))
    }
}

/// Adds what pushes an anchor and its chosen negative apart, seen from either of them.
fn push_chosen(
    anchors: &[Anchor],
    anchor: usize,
    first_column: usize,
    places: std::ops::Range<usize>,
    weights: &mut [f32],
) {
    for place in places {
        let other = first_column + place;
        let pushed = |from: usize, to: usize| anchors[from].push.filter(|(chosen, _)| *chosen == to);
        let both = [pushed(anchor, other), pushed(other, anchor)];
        weights[place] = both.into_iter().flatten().map(|(_, push)| push).sum();
    }
}

impl Rule {
    /// s(i,v) − s(i,p(i)) + m.
    fn within(margin: f64, similarity: f32, positive: f32) -> f64 {
        f64::from(similarity) - f64::from(positive) + margin
    }

    fn add(self, similarities: &[f32], row: &mut Row) {
        match self {
            Rule::Logistic { inverse_temperature } => {
                row.sum += sum_of_softplus(similarities, inverse_temperature);
            }
            Rule::Margin { margin } => {
                for &similarity in similarities {
                    let within = Rule::within(margin, similarity, row.positive);
                    if within > 0.0 {
                        row.sum += within;
                        row.n_within += 1;
                    }
                }
            }
        }
    }

    /// Takes the most similar of what is less similar than the positive and, where there is a margin, within it. `first`:
    /// the view of the first similarity.
    fn choose(self, first: usize, similarities: &[f32], row: &mut Row) {
        for (view, &similarity) in (first..).zip(similarities) {
            let is_near = match self {
                Rule::Logistic { .. } => true,
                Rule::Margin { margin } => Rule::within(margin, similarity, row.positive) > 0.0,
            };
            let is_nearest = row.chosen.is_none_or(|(_, nearest)| similarity > nearest);
            if similarity < row.positive && is_near && is_nearest {
                row.chosen = Some((view, similarity));
            }
        }
    }

    fn anchor(self, row: &Row, semi_hard: bool, n_negatives: usize) -> Anchor {
        let n = n_negatives as f64;
        let (term, pull, push) = match self {
            Rule::Logistic { inverse_temperature } => {
                let scale = f64::from(inverse_temperature);
                let logit = |similarity: f32| f64::from(similarity) * scale;
                let repulsion = if semi_hard {
                    row.chosen.map_or(0.0, |(_, similarity)| softplus(logit(similarity)))
                } else {
                    row.sum / n
                };
                let push = row.chosen.map(|(view, similarity)| (view, scale * sigmoid(logit(similarity))));
                let positive = logit(row.positive);
                (softplus(-positive) + repulsion, scale * sigmoid(-positive), push)
            }
            Rule::Margin { margin } if semi_hard => {
                let term = row.chosen.map_or(0.0, |(_, similarity)| Rule::within(margin, similarity, row.positive));
                let push = row.chosen.map(|(view, _)| (view, 1.0));
                (term, push.map_or(0.0, |(_, push)| push), push)
            }
            Rule::Margin { .. } => (row.sum / n, f64::from(row.n_within) / n, None),
        };
        // No comparison says that a similarity is no number.
        let term = if row.positive.is_finite() { term } else { f64::NAN };
        let push = push.map(|(view, push)| (view, push as f32));
        Anchor { positive: row.positive, term, pull: pull as f32, push }
    }

    /// n · (∂term(i)/∂s + ∂term(j)/∂s) of a negative pair over all triples; `own` and `other` are s of the two positives.
    fn slope(self, similarity: f32, own: f32, other: f32) -> f32 {
        match self {
            Rule::Logistic { inverse_temperature } => {
                2.0 * inverse_temperature / (1.0 + exponential(-similarity * inverse_temperature))
            }
            Rule::Margin { margin } => {
                let counts = |positive: f32| f32::from(u8::from(Rule::within(margin, similarity, positive) > 0.0));
                counts(own) + counts(other)
            }
        }
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// Factors of a product, each at most 2, that f64 holds.
const FACTORS: usize = 512;

/// Σ ln(1 + exp(s/T)) = Σ max(s/T, 0) + ln Π (1 + exp(−|s|/T)): a logarithm for many.
fn sum_of_softplus(similarities: &[f32], inverse_temperature: f32) -> f64 {
    let of_piece = |piece: &[f32]| {
        let (mut sum, mut product) = (0.0f64, 1.0f64);
        for similarity in piece {
            let logit = similarity * inverse_temperature;
            sum += f64::from(logit.max(0.0));
            product *= 1.0 + f64::from(exponential(-logit.abs()));
        }
        sum + libm::log(product)
    };
    similarities.chunks(FACTORS).map(of_piece).sum()
}
