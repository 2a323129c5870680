use super::{distance, emulated, on_cpu, setting, views};
use crate::device::emulator::Order;
use crate::executor::cpu::tests::build::{Builder, window};
use crate::executor::cuda::memory::needed_bytes;
use crate::executor::{Executor, Setting};
use crate::experiment::recipe::Numerics;
use crate::model::plan::{Activation, Plan, ValueId};

/// Without a batch norm no image sees another but in the loss.
pub(super) fn without_norms() -> Plan {
    let mut builder = Builder::new(8);
    let filters = [(3, 8), (8, 16)].map(|(inputs, outputs)| builder.filter("conv", outputs, inputs, 3));
    let x = builder.convolve(ValueId(0), filters[0], window(3, 1, 1));
    let x = builder.activate(x, Activation::Relu);
    let x = builder.convolve(x, filters[1], window(3, 2, 1));
    let x = builder.activate(x, Activation::Silu);
    builder.plan.features = builder.average(x);
    builder.plan.projection = builder.linear("head", builder.plan.features, 8, true);
    builder.plan
}

#[test]
fn pieces_give_the_gradient_of_the_whole_batch() {
    let plan = without_norms();
    let whole = setting(6, Numerics::F32);
    let mut expected = on_cpu(&plan, &whole);
    let views = views(&plan, 6, 4);
    let loss = expected.forward_backward(&views).expect("views fit");
    for micro_batch in [1, 2, 3] {
        let setting = Setting { micro_batch: Some(micro_batch), ..whole.clone() };
        let mut found = emulated(&plan, &setting, Order::FORWARD);
        let found_loss = found.forward_backward(&views).expect("views fit");
        assert!((found_loss - loss).abs() < 1e-5 * loss, "{micro_batch}: {found_loss}, not {loss}");
        let far = distance(&found.gradients(), &expected.gradients());
        assert!(far < 1e-5, "{micro_batch}: {far:e}");
        let far = distance(&found.projections(), &expected.projections());
        assert!(far < 1e-5, "{micro_batch}: {far:e}");
    }
    let pieces = Setting { batch: 512, micro_batch: Some(16), ..whole.clone() };
    assert!(needed_bytes(&plan, &pieces) < needed_bytes(&plan, &Setting { micro_batch: None, ..pieces.clone() }));
}
