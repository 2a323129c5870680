//! The number of threads changes no bit of ResNet-18 at its full width, at a batch that nothing divides.

use super::{LIGHTLY, LIGHTLY_START, SCOPES, cpu_executor, resnet18, setting, views};
use crate::executor::{Executor, Setting};
use crate::experiment::recipe::Stem;

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn threads_change_no_bit_of_a_gradient() {
    let plan = resnet18(Stem::ImageNet, LIGHTLY).plan().clone();
    let views = views(&plan, 13, 60);
    for scope in SCOPES {
        let run = |threads: usize| {
            let mut executor = cpu_executor(&plan, &Setting { threads, ..setting(13, scope) }, &LIGHTLY_START);
            let loss = executor.forward_backward(&views).expect("views fit");
            (loss.to_bits(), bits(&executor.gradients()), bits(&executor.save().buffers))
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3), "{scope:?}");
    }
}
