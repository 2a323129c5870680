//! Every loss on both executors, which compute it by different routes: `cpu` in f32 by tiles, `reference` on the tape or by
//! the formula in f64.

use super::{Pair, SCOPES, assert_near, setting, start};
use crate::executor::cpu::CpuExecutor;
use crate::executor::{Executor, Setting, State};
use crate::experiment::recipe::{BatchNormScope, Loss};
use crate::model::plan::Plan;
use crate::model::{twin, typed};
use crate::ops::contrastive::bank_len;
use crate::ops::nt_xent::normalize;

const LOSSES: [Loss; 10] = [
    Loss::NT_XENT,
    Loss::NtXent { normalize: true, scale: 2.0 },
    Loss::NtXent { normalize: false, scale: 0.5 },
    Loss::NtXentMemoryBank { size: 30 },
    Loss::Dcl,
    Loss::Dclw { sigma: 0.5 },
    Loss::NtLogistic { semi_hard: false },
    Loss::NtLogistic { semi_hard: true },
    Loss::MarginTriplet { margin: 0.4, semi_hard: false },
    Loss::MarginTriplet { margin: 0.8, semi_hard: true },
];

const BATCH: usize = 12;

fn setting_of(loss: Loss, scope: BatchNormScope) -> Setting {
    Setting { loss, ..setting(BATCH, scope) }
}

/// With a bank of unit vectors where the loss has one.
fn start_of(loss: Loss, plan: &Plan) -> State {
    let width = plan.projection_width();
    let drawn = super::draws(700, bank_len(loss, width));
    let mut bank = vec![0.0; drawn.len()];
    for (row, unit) in drawn.chunks(width).zip(bank.chunks_mut(width)) {
        normalize(row, unit);
    }
    State { bank, ..start(plan) }
}

fn pair_of(loss: Loss, scope: BatchNormScope) -> Pair {
    let (backbone, head) = twin::small();
    let model = typed::build(&backbone, Some(&head));
    let start = start_of(loss, model.plan());
    Pair::new(model, &setting_of(loss, scope), &start)
}

#[test]
fn three_steps_agree_for_every_loss() {
    for loss in LOSSES {
        for scope in SCOPES {
            let mut pair = pair_of(loss, scope);
            for step in 0..3 {
                let what = format!("{loss:?}, {scope:?}, step {step}");
                let [cpu, reference] = pair.forward_backward(10 + step).map(f64::from);
                assert!((cpu - reference).abs() <= 2e-5 * (0.1 + reference.abs()), "{what}: {cpu}, {reference}");
                if step == 0 {
                    for (name, [cpu, reference]) in pair.gradients() {
                        assert_near(&format!("{what}: gradients of {name}"), &cpu, &reference, 2e-4);
                    }
                }
                pair.update(0.02);
            }
            let [cpu, reference] = [pair.cpu.save(), pair.reference.save()];
            assert_near(&format!("{loss:?}: parameters"), &cpu.parameters, &reference.parameters, 1e-4);
            assert_eq!(cpu.bank.len(), bank_len(loss, pair.plan().projection_width()));
            if !cpu.bank.is_empty() {
                assert_near(&format!("{loss:?}: bank"), &cpu.bank, &reference.bank, 1e-3);
            }
        }
    }
}

/// Steps on one batch lower every loss; a bank holds nothing of the batch's own images at the first step and does later.
#[test]
fn every_loss_is_learnt() {
    for loss in LOSSES.into_iter().filter(|loss| bank_len(*loss, 1) == 0) {
        let mut pair = pair_of(loss, BatchNormScope::View);
        let views = super::views(pair.plan(), BATCH, 60);
        let first = pair.cpu.forward_backward(&views).expect("views fit");
        for _ in 0..30 {
            pair.cpu.update(0.02);
            pair.cpu.forward_backward(&views).expect("views fit");
        }
        let last = pair.cpu.forward_backward(&views).expect("views fit");
        assert!(last < first - 0.02 * first.abs(), "{loss:?}: from {first} to {last}");
    }
}

/// Parameters, momentum and the bank, wherever its ring stands; in one piece and in several.
#[test]
fn interrupted_and_resumed_is_uninterrupted() {
    let (loss, plan) = (Loss::NtXentMemoryBank { size: 30 }, pair_of(Loss::NT_XENT, SCOPES[0]).plan().clone());
    let in_pieces = Setting {
        micro_batch: Some(BATCH / 2),
        batch_norm_scope: BatchNormScope::MicroBatchView,
        ..setting_of(loss, BatchNormScope::View)
    };
    for setting in [setting_of(loss, BatchNormScope::View), in_pieces] {
        let build = |state: &State| {
            let mut executor = CpuExecutor::new(plan.clone(), &setting).expect("memory");
            executor.load(state);
            executor
        };
        let train = |executor: &mut CpuExecutor, step: u32| {
            executor.forward_backward(&super::views(&plan, BATCH, 80 + step)).expect("views fit");
            executor.update(0.02);
        };
        let mut whole = build(&start_of(loss, &plan));
        let mut states = vec![whole.save()];
        for step in 0..5 {
            train(&mut whole, step);
            states.push(whole.save());
        }
        assert!(states.windows(2).all(|pair| pair[0].bank != pair[1].bank), "every step moves the bank");
        for stop in 1..5 {
            let mut resumed = build(&states[stop]);
            (stop as u32..5).for_each(|step| train(&mut resumed, step));
            assert!(resumed.save() == states[5], "stopped after step {stop}");
        }
    }
}
