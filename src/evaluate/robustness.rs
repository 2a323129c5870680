//! How far features move when an image is augmented, one augmentation of the run at a time.
//!
//! Each is applied alone to every image asked about, always (p = 1), with draws of its own, then normalised as the run does.
//! `<name>_cosine` is the mean cosine similarity to the features of the same image without augmentation, `<name>_top1` the
//! share that a k-NN vote over the bank without augmentation still tells right; `cosine` and `top1` are the means over
//! augmentations, and without any 1 and the top-1 of the images as they are.

use crate::evaluate::Features;
use crate::evaluate::answer::{Answer, AnswerError, metric};
use crate::evaluate::asking::Asking;
use crate::experiment::augmentation_names;
use crate::experiment::recipe::{Augmentation, Classification, Knn};
use crate::ops::nt_xent::{dot, normalize};
use crate::record::Metric;
use crate::views::view;

/// Asks about every augmentation; none when asked to leave.
pub fn asked(
    asking: &mut Asking,
    knn: &Knn,
    bank: &Features,
    queries: &Features,
) -> Result<Option<Answer>, AnswerError> {
    let knn = Classification::Knn(*knn);
    let (run, test) = (asking.run, &asking.dataset.test);
    let all: Vec<u32> = (0..test.labels.len() as u32).collect();
    let (mut each, mut sums, mut n) = (Vec::<Metric>::new(), [0.0; 2], 0.0);
    for (position, (augmentation, name)) in (0..).zip(run.views.iter().zip(augmentation_names(&run.views))) {
        let Some(name) = name else { continue };
        let pipeline = asking.pipeline(&[always(augmentation)], run.seed);
        let Some(moved) = asking.of_views(test, &all, &pipeline, (position, view::ROBUSTNESS))? else {
            return Ok(None);
        };
        let measured = [mean_cosine(queries, &moved), asking.told_apart(&knn, bank, &moved)?.top1];
        each.push(metric(&format!("{name}_cosine"), measured[0], "1"));
        each.push(metric(&format!("{name}_top1"), measured[1], "fraction"));
        sums.iter_mut().zip(measured).for_each(|(sum, value)| *sum += value);
        n += 1.0;
    }
    let [cosine, top1] =
        if n > 0.0 { sums.map(|sum| sum / n) } else { [1.0, asking.told_apart(&knn, bank, queries)?.top1] };
    let mut metrics = vec![metric("cosine", cosine, "1"), metric("top1", top1, "fraction")];
    metrics.extend(each);
    Ok(Some(asking.answer(metrics, Vec::new())))
}

/// With p = 1. A crop has none: it is always applied.
fn always(augmentation: &Augmentation) -> Augmentation {
    let mut augmentation = augmentation.clone();
    match &mut augmentation {
        Augmentation::HorizontalFlip { p }
        | Augmentation::VerticalFlip { p }
        | Augmentation::Rotate90 { p }
        | Augmentation::Rotate { p, .. }
        | Augmentation::ColorJitter { p, .. }
        | Augmentation::Grayscale { p }
        | Augmentation::GaussianBlur { p, .. }
        | Augmentation::Solarize { p, .. } => *p = 1.0,
        Augmentation::RandomResizedCrop { .. } | Augmentation::Normalize { .. } => {}
    }
    augmentation
}

/// Between the rows of equal number; a row of zeros is at a right angle to all others.
fn mean_cosine(left: &Features, right: &Features) -> f64 {
    let (mut a, mut b) = (vec![0.0; left.width], vec![0.0; right.width]);
    let rows = left.values.chunks_exact(left.width).zip(right.values.chunks_exact(right.width));
    let cosine = |(left, right): (&[f32], &[f32])| {
        normalize(left, &mut a);
        normalize(right, &mut b);
        dot(&a, &b)
    };
    rows.map(cosine).sum::<f64>() / left.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::recipe::Filter;

    #[test]
    fn cosines_are_of_directions() {
        let features =
            |values: &[f32]| Features { values: values.to_vec(), width: 2, labels: vec![0; values.len() / 2] };
        let check = |left: &[f32], right: &[f32], expected: f64| {
            let found = mean_cosine(&features(left), &features(right));
            assert!((found - expected).abs() < 1e-7, "{left:?} and {right:?}: {found}, {expected} wanted");
        };
        check(&[3.0, 4.0], &[6.0, 8.0], 1.0);
        check(&[1.0, 0.0, 0.0, 2.0], &[0.0, 1.0, 0.0, 3.0], 0.5);
        check(&[1.0, 0.0], &[-1e-3, 0.0], -1.0);
        check(&[1.0, 0.0], &[1.0, 1.0], 0.5f64.sqrt());
        check(&[0.0, 0.0], &[1.0, 1.0], 0.0);
    }

    #[test]
    fn what_is_applied_by_chance_is_applied_always() {
        let blur = |p| Augmentation::GaussianBlur {
            p,
            sigma: (0.1, 2.0),
            kind: crate::experiment::recipe::BlurKind::Gaussian,
        };
        assert_eq!(always(&blur(0.5)), blur(1.0));
        assert_eq!(always(&Augmentation::HorizontalFlip { p: 0.0 }), Augmentation::HorizontalFlip { p: 1.0 });
        let crop = Augmentation::RandomResizedCrop { scale: (0.1, 1.0), ratio: (1.0, 1.0), filter: Filter::Bilinear };
        assert_eq!(always(&crop), crop);
    }
}
