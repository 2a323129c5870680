//! What an example may and may not touch, and that a batch can be learnt.

use super::{LIGHTLY, LIGHTLY_START, Pair, SCOPES, cpu_executor, draws, resnet18, setting, views};
use crate::executor::Executor;
use crate::experiment::recipe::{BatchNormScope, Stem};

/// Blocks hold 64 images: the first one, and both sides of a block's edge.
#[test]
fn an_evaluated_image_touches_its_own_features_only() {
    let plan = resnet18(Stem::ImageNet, LIGHTLY).plan().clone();
    let (image_len, width) = (plan.shape(plan.input).len(), plan.feature_width());
    let mut executor = cpu_executor(&plan, &setting(2, BatchNormScope::View), &LIGHTLY_START);
    let mut images = draws(30, 70 * image_len);
    let before = executor.features(&images).expect("images fit");
    for changed in [0, 63, 64] {
        let kept = images[changed * image_len..][..image_len].to_vec();
        images[changed * image_len..][..image_len].copy_from_slice(&draws(31, image_len));
        let after = executor.features(&images).expect("images fit");
        images[changed * image_len..][..image_len].copy_from_slice(&kept);
        let rows = before.chunks(width).zip(after.chunks(width));
        let touched: Vec<usize> = rows.enumerate().filter(|(_, (a, b))| a != b).map(|(image, _)| image).collect();
        assert_eq!(touched, [changed]);
    }
}

/// Statistics of its own keep a view's projections from knowing the other view; joint statistics do not.
#[test]
fn a_view_knows_the_other_by_joint_statistics_only() {
    for scope in SCOPES {
        let mut pair = Pair::of_small_twin(4, scope);
        let mut views = views(pair.plan(), 4, 40);
        let half = views.len() / 2;
        let mut first_projections = |views: &[f32]| {
            let executors: [&mut dyn Executor; 2] = [&mut pair.cpu, &mut pair.reference];
            executors.map(|executor| {
                executor.forward_backward(views).expect("views fit");
                let projections = executor.projections();
                projections[..projections.len() / 2].to_vec()
            })
        };
        let before = first_projections(&views);
        views[half..].iter_mut().for_each(|x| *x = -*x);
        let after = first_projections(&views);
        for (executor, before, after) in [("cpu", &before[0], &after[0]), ("reference", &before[1], &after[1])] {
            assert_eq!(before == after, scope == BatchNormScope::View, "{executor}, {scope:?}");
        }
    }
}

/// A loss that knows nothing is ln(2N − 1): the right one of 2N − 1 views, each as likely.
#[test]
fn one_batch_is_learnt() {
    let batch = 16;
    let plan = resnet18(Stem::ImageNet, LIGHTLY).plan().clone();
    let views = views(&plan, batch, 50);
    let mut executor = cpu_executor(&plan, &setting(batch, BatchNormScope::View), &LIGHTLY_START);
    let ignorant = ((2 * batch - 1) as f32).ln();
    let first = executor.forward_backward(&views).expect("views fit");
    assert!((first / ignorant - 1.0).abs() < 0.15, "starts at {first}, knowing nothing is {ignorant}");
    let mut last = first;
    for _ in 0..30 {
        executor.update(0.05);
        last = executor.forward_backward(&views).expect("views fit");
    }
    assert!(last < 0.75 * ignorant, "{last} after 30 steps, knowing nothing is {ignorant}");
}
