//! Many comparisons at once: the p of each, made larger so that all of them together keep their level.

/// Its name in notes.
pub const NAME: &str = "Holm-Bonferroni";

/// Holm's step-down Bonferroni (Holm 1979): the k-th smallest of m p-values times m − k + 1, never below a smaller one's and
/// never above 1. What has no p is no comparison and stays without one.
pub fn holm(p_values: &[Option<f64>]) -> Vec<Option<f64>> {
    let mut order: Vec<(f64, usize)> =
        p_values.iter().enumerate().filter_map(|(index, p)| p.map(|p| (p, index))).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut adjusted = vec![None; p_values.len()];
    let mut largest = 0.0f64;
    for (rank, (p, index)) in order.iter().enumerate() {
        largest = largest.max(p * (order.len() - rank) as f64).min(1.0);
        adjusted[*index] = Some(largest);
    }
    adjusted
}
