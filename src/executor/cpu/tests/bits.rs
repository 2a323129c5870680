//! The bits of a training: pinned, and the same in any registers.

use super::build::resnet18;
use super::{executor, setting, values};
use crate::executor::{Executor, Setting};
use crate::experiment::recipe::Stem;
use crate::ops::registers::forced;

/// Of three steps of a network of 16 to 128 channels: losses, parameters, momentum and running statistics.
fn digest(stem: Stem, threads: usize) -> String {
    let side = if stem == Stem::ImageNet { 32 } else { 16 };
    let setting = Setting { temperature: 0.5, ..setting(5, threads) };
    let mut executor = executor(resnet18(stem, side, 16, 24, 20), &setting);
    let mut hasher = blake3::Hasher::new();
    let mut add = |values: &[f32]| {
        for value in values {
            hasher.update(&value.to_le_bytes());
        }
    };
    for step in 0..3 {
        let loss = executor.forward_backward(&values(70 + step, 2 * 5 * 3 * side * side, 2.0)).expect("views fit");
        executor.update(0.05);
        add(&[loss]);
    }
    let state = executor.save();
    add(&state.parameters);
    add(&state.buffers);
    state.optimizer.iter().for_each(|(_, slot)| add(slot));
    hasher.finalize().to_hex()[..16].to_owned()
}

/// If these move, results of before are other results: bump `PRETRAIN_VERSION` and `EVALUATION_VERSION` and say so.
#[test]
fn a_training_has_the_same_bits_on_every_machine() {
    let pinned = ["3f9b2b32aba80812", "fc01e03e55d28a83"].map(str::to_owned);
    for (name, choice) in forced::choices() {
        let _registers = forced::force(choice);
        let found = [Stem::ImageNet, Stem::Cifar].map(|stem| digest(stem, 2));
        assert_eq!(found, pinned, "in {name} registers; to accept: copy the left list over the right one");
    }
}
