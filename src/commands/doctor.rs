//! `ablate doctor`: what this machine can compute on, what is missing for a GPU and how to get it.

use clap::Args;
use serde_json::json;

use crate::commands::error::CommandError;
use crate::commands::{Ending, count, print, print_json};
use crate::device::cuda::libraries::{self, Found};
use crate::device::{self, cuda};

/// The width of a terminal that fits everywhere.
const COLUMNS: usize = 80;

#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Answer in JSON on stdout
    #[arg(long)]
    pub json: bool,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Findings {
    libraries: Vec<Found>,
    /// The release of the driver's kernel module.
    kernel_module: Option<String>,
    /// The GPUs in the driver's order, or why the driver does not tell.
    gpus: Result<Vec<Gpu>, String>,
    processor: Processor,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Gpu {
    name: String,
    architecture: String,
    memory_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Processor {
    name: String,
    threads: usize,
    instructions: String,
    missing: Option<&'static str>,
}

pub fn execute(arguments: &Arguments) -> Result<Ending, CommandError> {
    let findings = look();
    if arguments.json {
        print_json(&findings.json())?;
    } else {
        print(&findings.text())?;
    }
    Ok(Ending::Complete)
}

fn look() -> Findings {
    let gpu = |ordinal| {
        cuda::device(ordinal).map(|found| Gpu {
            name: found.name,
            architecture: found.architecture,
            memory_bytes: found.memory_bytes,
        })
    };
    let libraries = libraries::look();
    // A driver that is not there was told of among the libraries.
    let no_driver =
        libraries.iter().any(|found| found.library == libraries::Library::Driver && found.problem.is_some());
    let gpus = if no_driver {
        Ok(Vec::new())
    } else {
        cuda::device_count().and_then(|n| (0..n).map(gpu).collect()).map_err(|error| error.to_string())
    };
    Findings {
        libraries,
        kernel_module: libraries::kernel_module_version(),
        gpus,
        processor: Processor {
            name: device::processor_name(),
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            instructions: device::instruction_sets(),
            missing: device::missing_instructions(),
        },
    }
}

impl Findings {
    /// Why `--device cuda` does not work; none if it does.
    fn cuda_problem(&self) -> Option<String> {
        let missing: Vec<&str> =
            self.libraries.iter().filter(|found| found.problem.is_some()).map(|found| found.name).collect();
        match &self.gpus {
            _ if !missing.is_empty() => Some(format!("needs {}", missing.join(", "))),
            Err(problem) => Some(problem.clone()),
            Ok(gpus) if gpus.is_empty() => Some("finds no GPU".to_owned()),
            Ok(_) => None,
        }
    }

    /// The values of `--device` that work here.
    fn devices(&self) -> Vec<&'static str> {
        let cuda = self.cuda_problem().is_none();
        let cpu = self.processor.missing.is_none();
        let works = [("auto", cuda || cpu), ("cuda", cuda), ("cpu", cpu), ("reference", true)];
        works.into_iter().filter(|(_, works)| *works).map(|(name, _)| name).collect()
    }

    fn text(&self) -> String {
        let mut text = "Libraries for a GPU\n".to_owned();
        for found in &self.libraries {
            let version = found.version.as_deref().unwrap_or(if found.path.is_some() { "?" } else { "-" });
            let path = found.path.as_ref().map(|path| path.display().to_string());
            let rows = match (&found.problem, &found.remedy) {
                (Some(problem), remedy) => [Some(problem.clone()), path, remedy.clone()],
                (None, _) => [path, None, None],
            };
            row(&mut text, found.name, version, &rows.into_iter().flatten().collect::<Vec<_>>());
        }
        text.push_str("GPUs\n");
        let module = self.kernel_module.as_ref().map(|version| format!(", driver {version}")).unwrap_or_default();
        match &self.gpus {
            Ok(gpus) if gpus.is_empty() => text.push_str("  none\n"),
            Ok(gpus) => {
                for (ordinal, Gpu { name, architecture, memory_bytes }) in gpus.iter().enumerate() {
                    let memory_gib = *memory_bytes as f64 / f64::from(1 << 30);
                    text.push_str(&format!("  {ordinal}: {name}, {architecture}, {memory_gib:.1} GiB{module}\n"));
                }
            }
            Err(problem) => text.push_str(&format!("  {problem}\n")),
        }
        let Processor { name, threads, instructions, missing } = &self.processor;
        text.push_str(&format!("Processor\n  {name}, {}, {instructions}\n", count(*threads, "thread")));
        if let Some(missing) = missing {
            text.push_str(&format!("  without {missing}, which `--device cpu` needs\n"));
        }
        if let Some(problem) = self.cuda_problem() {
            text.push_str(&format!("`--device cuda` does not work here: {problem}\n"));
        }
        text.push_str(&format!("`--device` works here with: {}\n", self.devices().join(", ")));
        text
    }

    fn json(&self) -> serde_json::Value {
        let library = |found: &Found| {
            json!({
                "name": found.name,
                "version": found.version,
                "path": found.path.as_ref().map(|path| path.display().to_string()),
                "problem": found.problem,
                "remedy": found.remedy,
            })
        };
        let gpu =
            |gpu: &Gpu| json!({ "name": gpu.name, "architecture": gpu.architecture, "memory_bytes": gpu.memory_bytes });
        let Processor { name, threads, instructions, missing } = &self.processor;
        json!({
            "libraries": self.libraries.iter().map(library).collect::<Vec<_>>(),
            "kernel_module": self.kernel_module,
            "gpus": self.gpus.as_ref().map(|gpus| gpus.iter().map(gpu).collect::<Vec<_>>()).unwrap_or_default(),
            "gpu_problem": self.gpus.as_ref().err(),
            "cuda_problem": self.cuda_problem(),
            "processor": { "name": name, "threads": threads, "instructions": instructions, "missing": missing },
            "devices": self.devices(),
        })
    }
}

/// Name and version, and beside them what there is to say; what does not fit there stands on a line of its own.
fn row(text: &mut String, name: &str, version: &str, said: &[String]) {
    let mut head = format!("  {name:<11}  {version:<8}");
    let width = head.chars().count();
    for said in said {
        if width + 1 + said.chars().count() <= COLUMNS {
            text.push_str(&format!("{head:<width$} {said}\n"));
        } else {
            let head = head.trim_end();
            text.push_str(&if head.is_empty() { format!("    {said}\n") } else { format!("{head}\n    {said}\n") });
        }
        head.clear();
    }
    if said.is_empty() {
        text.push_str(&format!("{}\n", head.trim_end()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cuda::libraries::Library;

    fn findings(libraries: Vec<Found>, gpus: Vec<Gpu>) -> Findings {
        let processor = Processor {
            name: "a processor".to_owned(),
            threads: 2,
            instructions: "avx2 fma".to_owned(),
            missing: None,
        };
        Findings { libraries, kernel_module: Some("580.65.06".to_owned()), gpus: Ok(gpus), processor }
    }

    fn found(library: Library, version: &str, path: &str) -> Found {
        Found {
            name: library.name(),
            library,
            path: Some(path.into()),
            version: Some(version.to_owned()),
            problem: None,
            remedy: None,
        }
    }

    fn missing(library: Library) -> Found {
        Found {
            name: library.name(),
            library,
            path: None,
            version: None,
            problem: Some("not found".to_owned()),
            remedy: Some(library.how_to_get(None)),
        }
    }

    #[test]
    fn a_machine_with_a_gpu() {
        let gpu = Gpu { name: "NVIDIA H200".to_owned(), architecture: "sm_90".to_owned(), memory_bytes: 141 << 30 };
        let long = "/opt/a/folder/whose/path/is/rather/long/lib/python3.12/nvidia/cu13/lib/libnvrtc.so.13";
        let all = findings(
            vec![found(Library::Driver, "13.0", "/lib/libcuda.so.1"), found(Library::Nvrtc, "13.2", long)],
            vec![gpu],
        );
        let expected = format!(
            "Libraries for a GPU\n  CUDA driver  13.0     /lib/libcuda.so.1\n  NVRTC        13.2\n    {long}\nGPUs\n  \
             0: NVIDIA H200, sm_90, 141.0 GiB, driver 580.65.06\nProcessor\n  a processor, 2 threads, avx2 fma\n\
             `--device` works here with: auto, cuda, cpu, reference\n"
        );
        assert_eq!(all.text(), expected);
        assert_eq!(all.json()["gpus"][0]["memory_bytes"], 141u64 << 30);
    }

    #[test]
    fn what_is_missing_is_told_with_what_gets_it() {
        let some = findings(vec![missing(Library::Driver), missing(Library::Cudnn)], Vec::new());
        let text = some.text();
        for expected in [
            "pip install nvidia-cudnn-cu13",
            "GPU's driver",
            "needs CUDA driver, cuDNN",
            "with: auto, cpu, reference\n",
        ] {
            assert!(text.contains(expected), "`{expected}` is not in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert_eq!(some.json()["libraries"][1]["remedy"], "pip install nvidia-cudnn-cu13");
    }

    #[test]
    fn libraries_without_a_gpu_are_not_enough() {
        let none = findings(vec![found(Library::Driver, "13.0", "/lib/libcuda.so.1")], Vec::new());
        assert!(none.text().contains("does not work here: finds no GPU"), "{}", none.text());
        let old = Processor { missing: Some("AVX2 and FMA"), ..none.processor.clone() };
        let old = Findings { processor: old, ..none };
        assert_eq!(old.devices(), ["reference"]);
        assert!(old.text().contains("without AVX2 and FMA"));
    }
}
