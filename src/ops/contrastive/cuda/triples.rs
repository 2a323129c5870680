//! NT-Logistic and the margin triplet as nodes, over all triples or the semi-hard ones.

use crate::device::gpu::{Address, Argument, Node};
use crate::ops::kernels::{flag, float, int, launch, pointer};
use crate::ops::nt_xent::cuda::{Loss, Panel, Places, gradients, mean, normalize};
use crate::ops::nt_xent::tiles::{Scratch, Tiling};

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Of the triplet; none for the logistic loss.
    pub margin: Option<f64>,
    pub semi_hard: bool,
}

impl Rule {
    /// A margin that every negative is within, where there is none.
    fn margin(self) -> Argument {
        Argument::F64(self.margin.unwrap_or(f64::INFINITY))
    }

    fn is_logistic(self) -> Argument {
        flag(self.margin.is_none())
    }
}

/// NT-Xent's scratch under other names, and the sums in f64 behind it.
struct Parts {
    shared: Scratch,
    /// A split's f64 of every row.
    sums: Address,
}

impl Parts {
    fn of(loss: &Loss, tiling: &Tiling, base: Address) -> Parts {
        let shared = loss.scratch(tiling, base);
        Parts { sums: base.offset(shared.bytes), shared }
    }

    /// s(i,p(i)).
    fn positives(&self) -> Address {
        self.shared.positives
    }

    fn pulls(&self) -> Address {
        self.shared.rest_shares
    }

    fn pushes(&self) -> Address {
        self.shared.log_sums
    }

    /// The semi-hard negative of every row, an int.
    fn views(&self) -> Address {
        self.shared.log_sum_rests
    }

    /// Negatives within the margin, or the negative that was chosen, of a split: ints.
    fn whole_numbers(&self) -> Address {
        self.shared.sums
    }

    /// The similarity of the negative that was chosen, of a split.
    fn nearest(&self) -> Address {
        self.shared.maxima
    }
}

pub fn scratch_bytes(loss: &Loss, tiling: &Tiling) -> usize {
    let sums = 8 * loss.sides().sum_splits(tiling) * loss.padded_views();
    loss.scratch(tiling, Address::NONE).bytes + sums
}

pub fn nodes(loss: &Loss, rule: Rule, places: &Places, tiling: &Tiling) -> Vec<Node> {
    loss.check(4);
    let parts = Parts::of(loss, tiling, places.scratch);
    let mut nodes = vec![
        normalize(loss, true, places.projections, &parts.shared),
        positives(loss, &parts),
        rows(loss, rule, tiling, &parts),
        anchors(loss, rule, tiling, places.anchor_losses, &parts),
        mean(places, loss.n_views, 1.0),
    ];
    let slope = 1.0 / loss.n_views as f64;
    let weigh = |panel: &Panel| weights(panel, rule, &parts);
    nodes.extend(gradients(loss, tiling, &parts.shared, (places.gradient, slope), weigh));
    nodes
}

fn of_rows(loss: &Loss, kernel: &'static str, arguments: Vec<Argument>) -> Node {
    launch(kernel, [loss.padded_views().div_ceil(128), 1, 1], [128, 1, 1], arguments)
}

fn positives(loss: &Loss, parts: &Parts) -> Node {
    let arguments = vec![
        pointer(parts.positives()),
        pointer(parts.shared.unit),
        int(loss.n_views),
        int(loss.stride()),
        int(loss.padded_views()),
    ];
    of_rows(loss, "triples_positives", arguments)
}

/// What every row's negatives come to.
fn rows(loss: &Loss, rule: Rule, tiling: &Tiling, parts: &Parts) -> Node {
    let sizes = [loss.n_views, loss.stride(), loss.padded_views(), tiling.sum_tiles].map(int);
    let unit = parts.shared.unit;
    let (kernel, places, last) = match rule {
        Rule { semi_hard: true, .. } => {
            ("triples_choose", vec![parts.whole_numbers(), parts.nearest(), unit, parts.positives()], rule.margin())
        }
        Rule { margin: Some(margin), .. } => {
            ("triples_margins", vec![parts.sums, parts.whole_numbers(), unit, parts.positives()], Argument::F64(margin))
        }
        Rule { margin: None, .. } => ("triples_softplus", vec![parts.sums, unit], float(loss.inverse_temperature)),
    };
    let arguments = places.into_iter().map(pointer).chain(sizes).chain([last]).collect();
    launch(kernel, loss.sides().sums_grid(tiling), tiling.block(), arguments)
}

fn anchors(loss: &Loss, rule: Rule, tiling: &Tiling, anchor_losses: Address, parts: &Parts) -> Node {
    let sizes = [loss.n_views, loss.padded_views(), loss.sides().sum_splits(tiling)].map(int);
    let whole_numbers = parts.whole_numbers();
    if rule.semi_hard {
        let places = [
            anchor_losses,
            parts.pulls(),
            parts.pushes(),
            parts.views(),
            whole_numbers,
            parts.nearest(),
            parts.positives(),
        ];
        let last = [float(loss.inverse_temperature), rule.margin(), rule.is_logistic()];
        let arguments = places.map(pointer).into_iter().chain(sizes).chain(last).collect();
        return of_rows(loss, "triples_chosen_anchors", arguments);
    }
    let counts = if rule.margin.is_some() { whole_numbers } else { Address::NONE };
    let places = [anchor_losses, parts.pulls(), parts.sums, counts, parts.positives()];
    let arguments = places.map(pointer).into_iter().chain(sizes).chain([float(loss.inverse_temperature)]).collect();
    of_rows(loss, "triples_anchors", arguments)
}

fn weights(panel: &Panel, rule: Rule, parts: &Parts) -> Node {
    let (loss, weights) = (panel.loss, parts.shared.weights);
    if rule.semi_hard {
        let places = [weights, parts.views(), parts.pushes(), parts.pulls()].map(pointer);
        let sizes = [loss.n_views, loss.padded_views(), panel.first_row].map(int);
        return panel.launch("triples_chosen_weights", places.into_iter().chain(sizes).collect());
    }
    let places = [weights, parts.shared.unit, parts.positives(), parts.pulls()].map(pointer);
    let sizes = [loss.n_views, loss.stride(), loss.padded_views(), panel.first_row].map(int);
    let last = [float(loss.inverse_temperature), rule.margin(), rule.is_logistic()];
    panel.launch("triples_weights", places.into_iter().chain(sizes).chain(last).collect())
}
