//! Where the CUDA libraries may lie, and which file of a folder to take.
//!
//! Pure but for reading folders: the environment comes in as a closure.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Reads an environment variable.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The folders that may hold libraries, most specific first, each existing and named once: `ABLATE_CUDA_PATH`, `CUDA_HOME`
/// and `CUDA_PATH`, the Python environments in use, then the toolkit's usual places.
pub fn folders(variable: Variable) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = variable("ABLATE_CUDA_PATH").iter().flat_map(std::env::split_paths).collect();
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).map(PathBuf::from);
    all.extend(homes.flat_map(|home| toolkit(&home)));
    for prefix in python_prefixes(variable) {
        for lib in ["lib", "lib64"].map(|lib| prefix.join(lib)) {
            for python in sorted_entries(&lib).into_iter().filter(|path| name_of(path).starts_with("python3")).rev() {
                all.extend(wheels(&python.join("site-packages")));
                all.extend(wheels(&python.join("dist-packages")));
            }
        }
    }
    // Conda keeps the libraries of its own packages beside everything else.
    all.extend(variable("CONDA_PREFIX").map(|prefix| Path::new(&prefix).join("lib")));
    all.extend(toolkits_below(Path::new("/usr/local")).iter().flat_map(|home| toolkit(home)));
    existing_once(all)
}

/// Where the `python3` on PATH itself says its packages are: what a version manager's stand-in for it hides from
/// [`folders`]. Starts a process.
pub fn folders_of_python() -> Vec<PathBuf> {
    let script = "import site, sysconfig; print(sysconfig.get_path('purelib'));\
                  print(sysconfig.get_path('platlib')); print(site.getusersitepackages())";
    let mut command = Command::new("python3");
    let output = command.args(["-c", script]).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    existing_once(text.lines().flat_map(|line| wheels(Path::new(line))).collect())
}

/// The files of a library in these folders, in the order to try them: folder after folder, in each the newest first.
/// `stem` is `libnvrtc`; files of a version above `major_max` are left out.
pub fn candidates(folders: &[PathBuf], stem: &str, major_max: Option<u32>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in folders {
        let mut files: Vec<(Vec<u32>, PathBuf)> = sorted_entries(folder)
            .into_iter()
            .filter_map(|path| Some((version(name_of(&path).strip_prefix(stem)?.strip_prefix(".so")?)?, path)))
            .filter(|(version, _)| version.first().is_none_or(|major| major_max.is_none_or(|max| *major <= max)))
            .collect();
        files.sort();
        found.extend(files.into_iter().rev().map(|(_, path)| path));
    }
    found
}

/// The numbers of what follows `.so`: nothing, or `.13`, `.12.8.93`.
fn version(suffix: &str) -> Option<Vec<u32>> {
    match suffix.strip_prefix('.') {
        Some(numbers) => numbers.split('.').map(|number| number.parse().ok()).collect(),
        None => suffix.is_empty().then(Vec::new),
    }
}

/// The library folders of an unpacked toolkit.
fn toolkit(home: &Path) -> [PathBuf; 3] {
    ["lib64", "lib", "targets/x86_64-linux/lib"].map(|lib| home.join(lib))
}

/// Toolkits installed below `folder`: the one chosen there (`cuda`), then those of a version of their own, the newest first.
pub fn toolkits_below(folder: &Path) -> Vec<PathBuf> {
    let numbered = |path: PathBuf| {
        let numbers = name_of(&path).strip_prefix("cuda-")?.split('.').map(str::parse);
        Some((numbers.collect::<Result<Vec<u32>, _>>().ok()?, path))
    };
    let mut versions: Vec<_> = sorted_entries(folder).into_iter().filter_map(numbered).collect();
    versions.sort();
    std::iter::once(folder.join("cuda")).chain(versions.into_iter().rev().map(|(_, path)| path)).collect()
}

/// Prefixes of the Python environments in use.
fn python_prefixes(variable: Variable) -> Vec<PathBuf> {
    let mut prefixes: Vec<PathBuf> =
        ["VIRTUAL_ENV", "CONDA_PREFIX"].into_iter().filter_map(variable).map(PathBuf::from).collect();
    for folder in variable("PATH").iter().flat_map(std::env::split_paths) {
        if folder.join("python3").exists() {
            prefixes.extend(folder.parent().map(Path::to_path_buf));
            // Where Debian's Python, itself below /usr, puts what is installed by hand.
            if folder == Path::new("/usr/bin") {
                prefixes.push("/usr/local".into());
            }
        }
    }
    prefixes.extend(variable("HOME").map(|home| Path::new(&home).join(".local")));
    prefixes
}

/// The library folders of NVIDIA's packages in a `site-packages`: `nvidia/cu13/lib`, then `nvidia/*/lib`.
fn wheels(site_packages: &Path) -> Vec<PathBuf> {
    let packages = sorted_entries(&site_packages.join("nvidia"));
    let is_toolkit = |path: &PathBuf| {
        name_of(path).strip_prefix("cu").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (mut toolkits, others): (Vec<_>, Vec<_>) = packages.into_iter().partition(is_toolkit);
    toolkits.reverse();
    toolkits.into_iter().chain(others).map(|package| package.join("lib")).collect()
}

fn existing_once(folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut kept: Vec<PathBuf> = Vec::new();
    for folder in folders {
        if !kept.contains(&folder) && folder.is_dir() {
            kept.push(folder);
        }
    }
    kept
}

fn sorted_entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
