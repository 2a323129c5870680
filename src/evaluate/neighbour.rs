//! An image of the bank, seen from one query.

use std::cmp::Ordering;

/// One of the images near to a query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    /// q·b, less ½‖b‖² where distances are asked for: it falls as the distance grows.
    pub nearness: f32,
    /// Its row in the bank.
    pub image: u32,
}

impl Neighbour {
    /// Nearer ones first, of equally near ones the lower index.
    pub fn order(&self, other: &Neighbour) -> Ordering {
        other.nearness.total_cmp(&self.nearness).then(self.image.cmp(&other.image))
    }
}
