//! `ablate bench kernels` on the processor: a line an operation, with three passes beside each other.

use serde_json::json;

use crate::bench::operations::{self, Kind, Pass, Step};
use crate::bench::speed::Subject;
use crate::commands::error::CommandError;
use crate::commands::{Ending, count, print, print_json};

/// What the columns count.
const LEGEND: &str = "\
%: the floor as a share of the time. The floor is the longer of an operation's
arithmetic at the peak and its bytes at the memory's speed, every operand once.
GF/s and % count the arithmetic of the definition, padding skipped. Winograd's
tiles, which 3x3 convolutions take on larger maps, do with less of it and can
pass 100 %, as can what a small batch leaves in a cache. The sums that a batch
norm needs are made by the convolution before it; all of its backward pass
stands under input gradient. Every figure is the middle of its own times.
";

pub fn time(subject: &Subject, as_json: bool) -> Result<Ending, CommandError> {
    let step = operations::time(subject).map_err(|error| CommandError::Bench(error.to_string()))?;
    if as_json {
        print_json(&json!({
            "stem": format!("{:?}", subject.stem), "batch": subject.batch, "numerics": format!("{:?}", subject.numerics),
            "backend": subject.backend.name(), "threads": subject.threads, "flop_counted": "definition", "step": step,
        }))?;
    } else {
        print(&as_text(subject, &step))?;
    }
    Ok(Ending::Complete)
}

fn as_text(subject: &Subject, step: &Step) -> String {
    let Subject { stem, batch, numerics, backend, threads, .. } = subject;
    let mut text = format!(
        "{stem:?} stem, batch {batch}, {numerics:?} on {}, {}, the middle of {}\n",
        backend.name(),
        count(*threads, "thread"),
        count(step.steps, "step"),
    );
    text.push_str(&format!(
        "peak {:.1} GFLOP/s: products within the first-level cache\n\
         memory {:.1} GB/s: a copy larger than the last-level cache, read and written\n{LEGEND}\n",
        step.roofline.gflop_per_s, step.roofline.gb_per_s
    ));
    text.push_str(&format!("{:24}{:>18}{:>18}{:>18}\n", "", "forward", "input gradient", "weight gradient"));
    text.push_str(&format!("{:24}", "operation"));
    text.push_str(&format!("{:>8}{:>5}{:>5}", "ms", "GF/s", "%").repeat(3));
    text.push('\n');
    step.operations.iter().for_each(|operation| text.push_str(&line(&operation.name, operation.passes())));
    text.push('\n');
    let mut in_operations_ms = 0.0;
    for (name, kind) in [
        ("convolutions", Kind::Convolution),
        ("batch norms", Kind::BatchNorm),
        ("linear layers", Kind::Linear),
        ("other operations", Kind::Other),
    ] {
        let of_kind = || step.operations.iter().filter(|operation| operation.kind == kind);
        let sums = [0, 1, 2].map(|pass| Pass::sum(of_kind().filter_map(|operation| operation.passes()[pass])));
        in_operations_ms += sums.iter().flatten().map(|pass| pass.ms).sum::<f64>();
        if of_kind().next().is_some() {
            text.push_str(&line(name, sums));
        }
    }
    for (name, ms) in [
        ("operations, all", in_operations_ms),
        ("loss", step.loss_ms),
        ("update", step.update_ms),
        ("step without views", step.step_ms),
    ] {
        text.push_str(&format!("{name:24}{ms:>8.2}\n"));
    }
    text
}

fn line(name: &str, passes: [Option<Pass>; 3]) -> String {
    let mut line = format!("{name:24}");
    for pass in passes {
        let of = |part: &dyn Fn(&Pass) -> Option<String>| pass.as_ref().and_then(part).unwrap_or_default();
        line.push_str(&format!(
            "{:>8}{:>5}{:>5}",
            of(&|pass| Some(format!("{:.2}", pass.ms))),
            of(&|pass| pass.gflop_per_s().map(|speed| format!("{speed:.0}"))),
            of(&|pass| Some(format!("{:.0}", 100.0 * pass.share()))),
        ));
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stay_apart_with_large_numbers() {
        let ms = 1234.568;
        let pass = Pass { ms, flop: Some(1234.0 * ms * 1e6), bytes: 8.0, floor_ms: 99.99 * ms };
        let line = line("projection_head.layers.0", [Some(pass), None, Some(pass)]);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["projection_head.layers.0", "1234.57", "1234", "9999", "1234.57", "1234", "9999"]);
        assert!(line.trim_end().len() <= 80, "{line}");
        assert!(LEGEND.lines().all(|line| line.chars().count() <= 80), "{LEGEND}");
    }
}
