//! Every kernel source through NVIDIA's compiler, for every architecture and both ways of storing. Needs NVRTC, but no GPU;
//! where there is none it is skipped, aloud, unless ABLATE_REQUIRE_NVRTC says that there must be.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ablate::device::cuda::{compile, libraries};
use ablate::device::gpu::{Element, PRELUDE, Source};
use ablate::{evaluate, executor};
use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

/// H100 and H200; A100; RTX 30; RTX 40 and L40; B200; RTX 50. The first alone unless the slow tests are asked for: all take
/// a minute of two cores.
const ARCHITECTURES: [&str; 6] = ["sm_90", "sm_80", "sm_86", "sm_89", "sm_100", "sm_120"];

fn architectures() -> &'static [&'static str] {
    let all = ["ABLATE_SLOW_TESTS", "ABLATE_REQUIRE_NVRTC"].into_iter().any(|name| std::env::var_os(name).is_some());
    if all { &ARCHITECTURES } else { &ARCHITECTURES[..1] }
}

/// Every source the program loads on a device.
fn sources() -> Vec<Source> {
    let evaluations = [evaluate::cuda::nearest::SOURCE, evaluate::linear_probe::cuda::SOURCE];
    executor::cuda::sources().into_iter().chain(evaluations).collect()
}

/// A kernel file that no source takes in would be compiled by nobody.
#[test]
fn every_kernel_file_is_loaded() {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for path in fs::read_dir(folder).expect("a source folder").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "cu" || extension == "cuh") {
                files.push(path);
            }
        }
    }
    let mut files = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    assert!(files.len() > 10, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).expect("a kernel source");
        let loaded = text == PRELUDE || sources().iter().any(|source| source.text.contains(text.as_str()));
        assert!(loaded, "{}: no source that the program loads holds it", file.display());
    }
}

#[test]
fn every_kernel_is_exported_once() {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for source in sources() {
        let exported = compile::kernels(source.text);
        assert_eq!(
            exported.len(),
            source.text.matches("__global__").count(),
            "{}: a KERNEL_EXPORT line for every kernel",
            source.name
        );
        for kernel in exported {
            if let Some(other) = owners.insert(kernel, source.name) {
                panic!("{other} and {} both have a kernel `{kernel}`", source.name);
            }
        }
    }
}

#[test]
fn every_kernel_compiles_and_spills_nothing() {
    if let Err(error) = libraries::load(&[libraries::Library::Nvrtc]) {
        assert!(std::env::var_os("ABLATE_REQUIRE_NVRTC").is_none(), "ABLATE_REQUIRE_NVRTC is set, but: {error}");
        println!("skipped: {error}");
        return;
    }
    let mut jobs = Vec::new();
    for source in sources() {
        for element in [Element::F32, Element::Bf16] {
            jobs.extend(architectures().iter().map(|architecture| (source, element, *architecture)));
        }
    }
    let problem = |(source, element, architecture): &(Source, Element, &'static str)| {
        let at = format!("{} {element:?} {architecture}", source.name);
        match compile::resources(source, *element, architecture) {
            Ok(log) => spills(&log).map(|spill| format!("{at}: {spill}")),
            Err(error) => Some(format!("{at}: {error}")),
        }
    };
    let problems: Vec<String> = jobs.par_iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The kernel and the compiler's words, of the first kernel that keeps registers in memory.
fn spills(log: &str) -> Option<String> {
    let mut kernel = "";
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Function properties for ") {
            kernel = rest.trim();
        }
        let spilled = |what: &str| {
            let before = line.split(what).next().filter(|before| before.len() < line.len())?;
            before.split_whitespace().last()?.parse::<u64>().ok()
        };
        if ["bytes spill stores", "bytes spill loads"].into_iter().filter_map(spilled).any(|bytes| bytes > 0) {
            return Some(format!("{kernel}: {}", line.trim()));
        }
    }
    None
}

#[test]
fn spills_are_read_from_the_compilers_words() {
    let none = "ptxas info    : Function properties for a\n    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n";
    let some = none.replace("for a", "for b").replace("0 bytes spill loads", "16 bytes spill loads");
    assert_eq!(spills(none), None);
    assert_eq!(
        spills(&format!("{none}{some}")).as_deref(),
        Some("b: 0 bytes stack frame, 0 bytes spill stores, 16 bytes spill loads")
    );
}
