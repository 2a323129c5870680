use ablate::executor::{Executor, State, cpu::CpuExecutor};
use ablate::experiment::recipe::{Numerics, Stem};
use ablate::model::plan::Op;
fn main() {
    let mut a = std::env::args().skip(1);
    let stem = if a.next().unwrap() == "cifar" { Stem::Cifar } else { Stem::ImageNet };
    let batch: usize = a.next().unwrap().parse().unwrap();
    let steps: usize = a.next().unwrap().parse().unwrap();
    let plan = ablate::bench::plan(stem).unwrap();
    let setting = ablate::bench::setting(batch, Numerics::F32, 2, 0);
    let mut e = CpuExecutor::new(plan.clone(), &setting).unwrap();
    let (parameters, buffers) = ablate::model::initialize::initialize(&plan, ablate::bench::model(stem).initialization, 0);
    let s = State { parameters, buffers, ..e.save() };
    e.load(&s);
    let mut x = 1u32;
    let views: Vec<f32> = (0..2 * batch * 3072).map(|_| { x = x.wrapping_mul(1664525).wrapping_add(1013904223); (x >> 8) as f32 / 8388608.0 - 1.0 }).collect();
    e.forward_backward(&views).unwrap();
    let before = e.timings().to_vec();
    let t = std::time::Instant::now();
    for _ in 0..steps { e.forward_backward(&views).unwrap(); }
    let all = t.elapsed().as_secs_f64() * 1e3 / steps as f64;
    let mut sum = [0.0; 3];
    for (i, op) in plan.ops.iter().enumerate() {
        let ms = |a: std::time::Duration, b: std::time::Duration| (a - b).as_secs_f64() * 1e3 / steps as f64;
        let (t, b) = (e.timings()[i], before[i]);
        let (f, bw, w) = (ms(t.forward, b.forward), ms(t.backward, b.backward), ms(t.backward_weight, b.backward_weight));
        let s = plan.shape(op.inputs()[0]); let o = plan.shape(op.output());
        let name = match op { Op::Conv2d { window, .. } => format!("conv k{} s{}", window.kernel, window.stride), Op::BatchNorm { residual, .. } => format!("norm{}", if residual.is_some() { "+" } else { "" }), Op::Pool2d { .. } => "pool".into(), Op::Linear { .. } => "linear".into(), o => format!("{o:?}").chars().take(8).collect() };
        let kind = if matches!(op, Op::Conv2d { .. }) { 0 } else if matches!(op, Op::BatchNorm { .. }) { 1 } else { 2 };
        sum[kind] += f + bw;
        let gf = |t: f64| if let Op::Conv2d { window, .. } = op { 2.0 * (2 * batch * o.len() * s.channels() * window.kernel * window.kernel) as f64 / t / 1e6 } else { 0.0 };
        println!("{i:3} {name:12} {:>4}x{:<4} -> {:>4}x{:<4} fwd {f:7.2} ({:5.0}) dx {:7.2} ({:5.0}) dw {w:7.2} ({:5.0})", s.positions(), s.channels(), o.positions(), o.channels(), gf(f), bw - w, gf(bw - w), gf(w));
    }
    println!("all {all:.1} conv {:.1} norm {:.1} rest {:.1}", sum[0], sum[1], sum[2]);
}
