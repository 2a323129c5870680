//! The loss of a recipe: what is read, what moves a key, what a device refuses.

use std::collections::BTreeSet;

use super::changes::rich_run;
use super::{first_run, options};
use crate::content::Key;
use crate::experiment::recipe::{Backend, Loss};
use crate::experiment::run::Run;
use crate::experiment::{LoadOptions, load};

/// A loss as a file says it, as it is understood, and the leaves that it has in a key beside the temperature.
const LOSSES: [(&str, Loss, &[&str]); 9] = [
    ("NtXent", Loss::NT_XENT, &[]),
    ("NtXent(scale: 2.0)", Loss::NtXent { normalize: true, scale: 2.0 }, &["", ".normalize", ".scale"]),
    ("NtXent(normalize: false)", Loss::NtXent { normalize: false, scale: 1.0 }, &["", ".normalize", ".scale"]),
    ("NtXentMemoryBank", Loss::NtXentMemoryBank { size: 4096 }, &["", ".size"]),
    ("Dcl", Loss::Dcl, &[""]),
    ("Dclw", Loss::Dclw { sigma: 0.5 }, &["", ".sigma"]),
    ("NtLogistic", Loss::NtLogistic { semi_hard: false }, &["", ".semi_hard"]),
    ("MarginTriplet", Loss::MarginTriplet { margin: 0.4, semi_hard: false }, &["", ".margin", ".semi_hard"]),
    (
        "MarginTriplet(semi_hard: true, margin: 0)",
        Loss::MarginTriplet { margin: 0.0, semi_hard: true },
        &["", ".margin", ".semi_hard"],
    ),
];

fn of(loss: Loss) -> Run {
    let mut run = rich_run();
    run.train.loss = loss;
    run
}

fn leaves(run: &Run) -> BTreeSet<String> {
    run.pretrain_meaning().leaves().into_iter().map(|(path, _)| path).collect()
}

#[test]
fn every_loss_is_read_and_has_its_own_leaves() {
    let before = leaves(&rich_run());
    for (text, loss, expected) in LOSSES {
        assert_eq!(first_run(&format!("train: (loss: {text})")).train.loss, loss);
        let with = leaves(&of(loss));
        let more: BTreeSet<String> = with.difference(&before).cloned().collect();
        assert_eq!(more, expected.iter().map(|leaf| format!("train.loss{leaf}")).collect(), "{text}");
        let less: Vec<&String> = before.difference(&with).collect();
        assert_eq!(less.is_empty(), loss.has_temperature(), "{text} lacks {less:?}");
    }
    let keys: BTreeSet<Key> = LOSSES.iter().map(|(_, loss, _)| of(*loss).pretrain_key()).collect();
    assert_eq!(keys.len(), LOSSES.len());
}

#[test]
fn every_number_of_a_loss_moves_the_key() {
    let pairs = [
        [Loss::NtXent { normalize: false, scale: 1.0 }, Loss::NtXent { normalize: false, scale: 2.0 }],
        [Loss::NtXent { normalize: true, scale: 2.0 }, Loss::NtXent { normalize: false, scale: 2.0 }],
        [Loss::NtXentMemoryBank { size: 4096 }, Loss::NtXentMemoryBank { size: 4097 }],
        [Loss::Dcl, Loss::Dclw { sigma: 0.5 }],
        [Loss::Dclw { sigma: 0.5 }, Loss::Dclw { sigma: 0.4 }],
        [Loss::NtLogistic { semi_hard: false }, Loss::NtLogistic { semi_hard: true }],
        [Loss::MarginTriplet { margin: 0.4, semi_hard: false }, Loss::MarginTriplet { margin: 0.8, semi_hard: false }],
        [Loss::MarginTriplet { margin: 0.4, semi_hard: false }, Loss::MarginTriplet { margin: 0.4, semi_hard: true }],
    ];
    for [one, other] in pairs {
        assert_ne!(of(one).pretrain_key(), of(other).pretrain_key(), "{one:?}, {other:?}");
    }
}

/// Equal meanings have equal keys: NT-Xent as it always was, and a temperature that a loss does not have.
#[test]
fn what_changes_nothing_moves_no_key() {
    let key = |train: &str| first_run(&format!("train: ({train})")).pretrain_key();
    let plain = key("batch: 256");
    for spelled in ["NtXent", "NtXent()", "NtXent(normalize: true)", "NtXent(scale: 1, normalize: true)"] {
        assert_eq!(key(&format!("loss: {spelled}")), plain, "{spelled}");
    }
    for (text, loss, _) in LOSSES {
        let of = |temperature: f64| key(&format!("loss: {text}, temperature: {temperature}"));
        assert_eq!(of(0.1) != of(0.2), loss.has_temperature(), "{text}");
    }
}

#[test]
fn every_device_has_every_loss() {
    for (text, _, _) in LOSSES {
        let text = format!("Experiment(question: \"q\", dataset: Builtin, train: (loss: {text}, batch: 64))");
        for backend in [Backend::Cpu, Backend::Reference, Backend::Cuda] {
            let loaded = load("x.ron", &text, &LoadOptions { backend, ..options(&[]) });
            assert!(loaded.is_ok(), "{text} on {backend:?}");
        }
    }
}

#[test]
fn a_shrunk_run_keeps_its_loss_and_shrinks_its_bank() {
    for (text, loss, _) in LOSSES {
        let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), train: (loss: {text}))");
        let loaded = load("x.ron", &text, &LoadOptions { smoke: true, ..options(&[]) });
        let found = loaded.unwrap_or_else(|problems| panic!("{problems}")).cells[0].runs[0].train.loss;
        let expected =
            if let Loss::NtXentMemoryBank { .. } = loss { Loss::NtXentMemoryBank { size: 256 } } else { loss };
        assert_eq!(found, expected);
    }
}

#[test]
fn a_loss_and_its_fields_can_be_swept() {
    let losses = |sweep: &str| -> Vec<Loss> {
        let text = format!("Experiment(question: \"q\", dataset: Cifar10(root: \"data\"), {sweep})");
        let loaded = load("x.ron", &text, &options(&[]));
        let experiment = loaded.unwrap_or_else(|problems| panic!("{problems}"));
        experiment.cells.iter().map(|cell| cell.runs[0].train.loss).collect()
    };
    let scales = losses("sweep: [Axis(\"train.loss.scale\", [1.0, 2.0])]");
    assert_eq!(scales, [Loss::NT_XENT, Loss::NtXent { normalize: true, scale: 2.0 }]);
    let margins = losses("train: (loss: MarginTriplet), sweep: [Axis(\"train.loss.margin\", [0.8, 1.6])]");
    assert_eq!(margins, [0.8, 1.6].map(|margin| Loss::MarginTriplet { margin, semi_hard: false }));
    let kinds = losses("sweep: [Axis(\"train.loss\", [Dcl, Dclw(sigma: 1)])]");
    assert_eq!(kinds, [Loss::Dcl, Loss::Dclw { sigma: 1.0 }]);
}
