//! `ablate bench`: how fast a training runs here, where its step goes, and how far a GPU's numbers are from the processor's.

mod operations;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::bench::kernels::{Kernel, Step};
use crate::bench::parity::Comparison;
use crate::bench::report::{self, Found, Part};
use crate::bench::speed::{Speed, Subject};
use crate::bench::{self, speed};
use crate::commands::arguments::DeviceArguments;
use crate::commands::error::CommandError;
use crate::commands::{Ending, open, print, print_json};
use crate::data::{self, Images};
use crate::experiment::recipe::{Backend, Builtin, Dataset, Numerics, Split, Stem};

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    #[command(subcommand)]
    pub what: What,
}

#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Pairs of views a second of the whole step of ResNet-18
    Train(TrainArguments),
    /// Every operation of a processor's step with the share of its floor, or every kernel of a GPU's step timed alone
    Kernels(KernelArguments),
    /// Operations, the whole model and some steps of a training against the `cpu` executor
    Parity(ParityArguments),
}

#[derive(Debug, Clone, Args)]
pub struct TrainArguments {
    #[command(flatten)]
    pub subject: SubjectArguments,
    /// Trainings side by side
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// Train on this data set instead of the built-in one: what `cifar-10-batches-bin`, `cifar-100-binary` or `train` with a
    /// folder a class lies in
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct KernelArguments {
    #[command(flatten)]
    pub subject: SubjectArguments,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// What is timed.
#[derive(Debug, Clone, Args)]
pub struct SubjectArguments {
    #[arg(long, value_enum, default_value_t = StemChoice::Imagenet)]
    pub stem: StemChoice,
    /// Images a step
    #[arg(long, default_value_t = 256)]
    pub batch: usize,
    /// [default: the device's own]
    #[arg(long, value_enum)]
    pub numerics: Option<NumericsChoice>,
    /// Seconds to measure, at least
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    #[command(flatten)]
    pub device: DeviceArguments,
}

#[derive(Debug, Clone, Args)]
pub struct ParityArguments {
    #[command(flatten)]
    pub device: DeviceArguments,
    /// Fewer channels, images and steps
    #[arg(long)]
    pub quick: bool,
    /// These parts alone
    #[arg(long, value_enum, value_name = "PARTS", value_delimiter = ',')]
    pub only: Vec<PartChoice>,
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PartChoice {
    /// Every operation by itself
    Operations,
    /// The whole model
    Whole,
    /// Losses of some steps
    Losses,
    /// Bits of repetitions, alone and side by side
    Repeats,
}

impl PartChoice {
    fn part(self) -> Part {
        match self {
            PartChoice::Operations => Part::Operations,
            PartChoice::Whole => Part::Whole,
            PartChoice::Losses => Part::Losses,
            PartChoice::Repeats => Part::Repeats,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StemChoice {
    Imagenet,
    Cifar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NumericsChoice {
    F32,
    Bf16,
}

fn seconds(text: &str) -> Result<f64, String> {
    let known = text.parse().ok().filter(|seconds: &f64| seconds.is_finite() && *seconds >= 0.0);
    known.ok_or_else(|| "expected a number of seconds from 0 on".to_owned())
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    match &arguments.what {
        What::Train(arguments) => train(arguments),
        What::Kernels(arguments) => time_kernels(arguments),
        What::Parity(arguments) => compare(arguments),
    }
}

fn failed(error: &impl std::fmt::Display) -> CommandError {
    CommandError::Bench(error.to_string())
}

fn subject(arguments: &SubjectArguments, jobs: u16) -> Result<Subject, CommandError> {
    let (backend, device) = open::backend(arguments.device.device)?;
    let numerics = match (arguments.numerics, backend) {
        (Some(NumericsChoice::Bf16), Backend::Cpu | Backend::Reference) => {
            return Err(CommandError::Usage("`--numerics bf16` needs the device `cuda`".to_owned()));
        }
        (Some(NumericsChoice::Bf16) | None, Backend::Cuda) => Numerics::Bf16,
        (Some(NumericsChoice::F32), _) | (None, Backend::Cpu | Backend::Reference) => Numerics::F32,
    };
    Ok(Subject {
        stem: match arguments.stem {
            StemChoice::Imagenet => Stem::ImageNet,
            StemChoice::Cifar => Stem::Cifar,
        },
        batch: arguments.batch,
        numerics,
        backend,
        device,
        threads: open::pool(&arguments.device).threads(),
        jobs: usize::from(jobs),
        seconds: arguments.seconds,
    })
}

fn train(arguments: &TrainArguments) -> Result<Ending, CommandError> {
    let subject = subject(&arguments.subject, arguments.jobs)?;
    let images = images(arguments.data.as_deref(), subject.batch)?;
    let speed = speed::train(&subject, &images, &bench::views()).map_err(|error| failed(&error))?;
    if arguments.json {
        print_json(&json!({
            "stem": format!("{:?}", subject.stem), "batch": subject.batch, "numerics": format!("{:?}", subject.numerics),
            "backend": subject.backend.name(), "jobs": subject.jobs, "threads": subject.threads, "data": arguments.data,
            "speed": speed,
        }))?;
    } else {
        print(&as_text(&subject, &speed))?;
    }
    Ok(Ending::Complete)
}

/// The training images of the data set at `root`, or built-in ones.
fn images(root: Option<&Path>, batch: usize) -> Result<Images, CommandError> {
    const CIFAR: [&str; 2] = ["cifar-10-batches-bin", "cifar-100-binary"];
    let per_class = u32::try_from(batch.div_ceil(5)).unwrap_or(u32::MAX).clamp(200, 5000);
    let dataset = match root {
        None => Dataset::Builtin(Builtin { n_classes: 10, train_per_class: per_class, test_per_class: 1, seed: 0 }),
        Some(given) => {
            // The folder of the files themselves is taken for the one it lies in.
            let is_inside = CIFAR.iter().any(|name| given.ends_with(name));
            let folder = if is_inside { given.parent().unwrap_or(given) } else { given };
            let root = folder.to_string_lossy().into_owned();
            if folder.join(CIFAR[0]).is_dir() {
                Dataset::Cifar10 { root }
            } else if folder.join(CIFAR[1]).is_dir() {
                Dataset::Cifar100 { root }
            } else {
                Dataset::ImageFolder { root }
            }
        }
    };
    Ok(data::load(&dataset, Split::Official)?.train.images)
}

fn as_text(subject: &Subject, speed: &Speed) -> String {
    let Subject { stem, batch, numerics, backend, jobs, .. } = subject;
    let mut text = format!("{stem:?} stem, batch {batch}, {numerics:?} on {}, {jobs} at a time\n", backend.name());
    text.push_str(&format!("  {:<10} {:>10.1}\n", "pairs/s", speed.pairs_per_s));
    let parts = [
        ("step", Some(speed.step_ms)),
        ("views", speed.views_ms),
        ("forward", speed.forward_ms),
        ("loss", speed.loss_ms),
        ("backward", speed.backward_ms),
        // Where it is not known of what.
        ("gradient", speed.gradient_ms.filter(|_| speed.forward_ms.is_none())),
        ("update", speed.update_ms),
    ];
    for (name, ms) in parts {
        if let Some(ms) = ms {
            text.push_str(&format!("  {name:<10} {ms:>10.3} ms\n"));
        }
    }
    text
}

fn time_kernels(arguments: &KernelArguments) -> Result<Ending, CommandError> {
    let subject = subject(&arguments.subject, 1)?;
    match subject.backend {
        Backend::Cuda => {}
        Backend::Cpu => return operations::time(&subject, arguments.json),
        Backend::Reference => {
            return Err(CommandError::Usage("`bench kernels` times `cpu` or `cuda`".to_owned()));
        }
    }
    let step = report::kernels(&subject).map_err(|error| failed(&error))?;
    if arguments.json {
        print_json(&json!({
            "stem": format!("{:?}", subject.stem), "batch": subject.batch, "numerics": format!("{:?}", subject.numerics),
            "step": step,
        }))?;
    } else {
        print(&kernels_text(&step))?;
    }
    Ok(Ending::Complete)
}

fn kernels_text(step: &Step) -> String {
    let Step { peaks, step_us, kernels } = step;
    let mut text = format!(
        "step without views {step_us:.1} us\npeaks: {:.0} GB/s copied, {:.0} GFLOP/s in f32, {:.0} in bf16\n",
        peaks.gb_per_s, peaks.f32_gflop_per_s, peaks.bf16_gflop_per_s
    );
    for kernel in kernels {
        let share = kernel.share.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share));
        let Kernel { total_us, count, what, .. } = kernel;
        text.push_str(&format!("{total_us:>9.1} us {share:>6} {count:>4} x {what}\n"));
    }
    text
}

fn compare(arguments: &ParityArguments) -> Result<Ending, CommandError> {
    let (backend, device) = open::backend(arguments.device.device)?;
    if backend == Backend::Reference {
        return Err(CommandError::Usage("`bench parity` compares `cuda` or `cpu` with `cpu`".to_owned()));
    }
    let threads = open::pool(&arguments.device).threads();
    let asked: Vec<Part> = arguments.only.iter().map(|part| part.part()).collect();
    let parts = if asked.is_empty() { &Part::ALL[..] } else { &asked };
    let found = report::parity(backend, device, threads, (parts, arguments.quick)).map_err(|error| failed(&error))?;
    if arguments.json {
        print_json(&serde_json::to_value(&found).expect("names and numbers"))?;
    } else {
        print(&parity_text(&found))?;
    }
    Ok(if found.bits_repeat { Ending::Complete } else { Ending::Incomplete })
}

fn parity_text(found: &Found) -> String {
    let mut text = format!("{:<44} {:>9} {:>9} {:>9}\n", "against cpu", "loss", "gradient", "features");
    let whole = found.whole.iter().map(|(_, line)| line);
    for line in found.operations.iter().chain(&found.each_loss).chain(whole) {
        let Comparison { what, loss, gradient, features, .. } = line;
        text.push_str(&format!("{what:<44} {loss:>9.1e} {gradient:>9.1e} {features:>9.1e}\n"));
    }
    for (numerics, expected, found) in &found.losses {
        let (Some(expected), Some(found)) = (expected.last(), found.last()) else { continue };
        text.push_str(&format!("loss after the last step, {numerics}: {found}, cpu {expected}\n"));
    }
    if !found.repeats.is_empty() {
        let same = if found.bits_repeat { "the same bits" } else { "DIFFERENT BITS" };
        text.push_str(&format!("{} repetitions, one by one and side by side: {same}\n", found.repeats.len()));
    }
    text
}
