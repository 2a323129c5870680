//! The arguments that several commands share, as typed.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

use crate::commands::code::CodeArguments;

/// The experiment and what to change in it.
#[derive(Debug, Clone, Args)]
pub struct ExperimentArguments {
    /// The experiment file (RON)
    pub file: PathBuf,
    /// Replaces a part of the file: `train.batch=512`, `seeds=[0]`, `evaluate[0].k=20`
    #[arg(value_name = "PATH=VALUE")]
    pub overrides: Vec<String>,
    /// Shrink to seconds on a CPU: built-in data, batches over 16, four steps, two seeds; kept apart under results/smoke/
    #[arg(long)]
    pub smoke: bool,
    /// Where the data set lies, instead of the file's root
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub places: PlaceArguments,
}

/// Where results go.
#[derive(Debug, Clone, Args)]
pub struct PlaceArguments {
    /// Where the Parquet tables go
    #[arg(long, value_name = "DIR", default_value = "results")]
    pub results: PathBuf,
    /// Where records and checkpoints go [default: RESULTS/store]
    #[arg(long, value_name = "DIR")]
    pub store: Option<PathBuf>,
}

/// What computes.
#[derive(Debug, Clone, Args)]
pub struct DeviceArguments {
    /// What computes: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1` for the second GPU, or `reference`
    /// (dfdx's own tape: slow, obviously right)
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,
    /// Worker threads; never changes a result [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    Auto,
    Cpu,
    /// The GPU of this number.
    Cuda(usize),
    Reference,
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceChoice, String> {
        let number = |digits: &str| digits.parse().ok().map(DeviceChoice::Cuda);
        let choice = match text {
            "auto" => Some(DeviceChoice::Auto),
            "cpu" => Some(DeviceChoice::Cpu),
            "cuda" => Some(DeviceChoice::Cuda(0)),
            "reference" => Some(DeviceChoice::Reference),
            other => other.strip_prefix("cuda:").and_then(number),
        };
        choice.ok_or_else(|| "expected `auto`, `cpu`, `cuda`, `cuda:N` with N from 0, or `reference`".to_owned())
    }
}

/// How a GPU's convolutions are computed.
#[derive(Debug, Clone, Default, Args)]
pub struct PlanArguments {
    /// Compute a GPU's convolutions as this plan lock says; its digest becomes part of every run's key
    #[arg(long, value_name = "FILE")]
    pub plans: Option<PathBuf>,
}

/// How a GPU's convolutions are computed, and whether that is to be found out.
#[derive(Debug, Clone, Default, Args)]
pub struct TuneArguments {
    #[command(flatten)]
    pub lock: PlanArguments,
    /// Time a GPU's deterministic ways to compute every convolution that RESULTS/plans.lock.json lacks, keep the fastest
    /// there and compute as it says
    #[arg(long, conflicts_with = "plans")]
    pub tune: bool,
}

/// What the commands that compute share.
#[derive(Debug, Clone, Args)]
pub struct ComputeArguments {
    #[command(flatten)]
    pub experiment: ExperimentArguments,
    #[command(flatten)]
    pub device: DeviceArguments,
    #[command(flatten)]
    pub plans: TuneArguments,
    #[command(flatten)]
    pub code: CodeArguments,
    #[command(flatten)]
    pub output: OutputArguments,
    /// Compute again what failed in a way that repeats itself, a loss that is not finite for one
    #[arg(long)]
    pub retry_failed: bool,
    /// Leave with exit code 5 instead of waiting for the runs that other processes have in work
    #[arg(long)]
    pub no_wait: bool,
    /// Begin no run that would leave less space free where the store is: `500MB`, `2GB`
    #[arg(long, value_name = "BYTES", default_value = "1GB")]
    pub disk_floor: Bytes,
}

/// A number of bytes, as typed with its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let refused = || format!("`{text}` is no number of bytes: expected one such as `0`, `500MB` or `2GiB`");
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let factor: u64 = match unit {
            "" | "B" => 1,
            "kB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err(refused()),
        };
        let number: u64 = digits.parse().map_err(|_| refused())?;
        number.checked_mul(factor).map(Bytes).ok_or_else(refused)
    }
}

/// How to answer.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArguments {
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
    /// No progress on stderr
    #[arg(long, short)]
    pub quiet: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_are_read_with_their_unit() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(text.parse().ok(), expected.map(Bytes), "{text}");
        check("0", Some(0));
        check("17", Some(17));
        check("3B", Some(3));
        check("3kB", Some(3_000));
        check("500MB", Some(500_000_000));
        check("1GB", Some(1_000_000_000));
        check("2TB", Some(2_000_000_000_000));
        check("500MiB", Some(500 << 20));
        check("2GiB", Some(2 << 30));
        check("1TiB", Some(1 << 40));
        for wrong in ["", "MiB", "1mb", "1 GB", "-1", "1.5GiB", "99999999999TiB", "18446744073709551616"] {
            check(wrong, None);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[0-9]{0,24}[a-zA-Zµ]{0,4}") {
            let _ = text.parse::<Bytes>();
        }
    }
}
