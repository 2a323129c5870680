//! DCL and DCLW as nodes. The terms of NT-Xent's weights are theirs too: the log-sums leave the positive out, and w takes the
//! place of the share that is not the positive's.

use crate::device::gpu::{Address, Argument, Node};
use crate::ops::kernels::{float, int, launch, pointer};
use crate::ops::nt_xent::cuda::{Loss, Panel, Places, gradients, mean, normalize, sums};
use crate::ops::nt_xent::tiles::{Scratch, Tiling};

/// Of the pairs' likelihoods: two f64.
const SPREAD_BYTES: usize = 256;

pub fn scratch_bytes(loss: &Loss, tiling: &Tiling) -> usize {
    loss.scratch(tiling, Address::NONE).bytes + SPREAD_BYTES
}

/// With a `sigma` DCLW.
pub fn nodes(loss: &Loss, sigma: Option<f64>, places: &Places, tiling: &Tiling) -> Vec<Node> {
    loss.check(4);
    let scratch = loss.scratch(tiling, places.scratch);
    let spread = places.scratch.offset(scratch.bytes);
    let mut nodes = vec![normalize(loss, true, places.projections, &scratch), sums(loss, tiling, &scratch)];
    if let Some(sigma) = sigma {
        let arguments = vec![pointer(spread), pointer(scratch.positives), int(loss.n_views / 2), Argument::F64(sigma)];
        nodes.push(launch("decoupled_spread", [1, 1, 1], [256, 1, 1], arguments));
    }
    let weighed_by = sigma.map_or((Address::NONE, 1.0), |sigma| (spread, sigma));
    nodes.push(anchors(loss, tiling, places.anchor_losses, &scratch, weighed_by));
    nodes.push(mean(places, loss.n_views, 1.0));
    let slope = f64::from(loss.inverse_temperature) / loss.n_views as f64;
    nodes.extend(gradients(loss, tiling, &scratch, (places.gradient, slope), |panel: &Panel| panel.weights()));
    nodes
}

fn anchors(
    loss: &Loss,
    tiling: &Tiling,
    anchor_losses: Address,
    scratch: &Scratch,
    (spread, sigma): (Address, f64),
) -> Node {
    let arguments = vec![
        pointer(anchor_losses),
        pointer(scratch.log_sums),
        pointer(scratch.log_sum_rests),
        pointer(scratch.rest_shares),
        pointer(scratch.maxima),
        pointer(scratch.sums),
        pointer(scratch.positives),
        pointer(spread),
        int(loss.n_views),
        int(loss.padded_views()),
        int(loss.sides().sum_splits(tiling)),
        float(loss.inverse_temperature),
        Argument::F64(sigma),
    ];
    launch("decoupled_anchors", [loss.padded_views().div_ceil(128), 1, 1], [128, 1, 1], arguments)
}
