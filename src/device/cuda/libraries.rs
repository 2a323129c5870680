//! NVIDIA's libraries at run time: found, opened by path before the bindings look for them by name, asked for their version.
//!
//! The bindings (`cudarc`) panic on a missing library or symbol. So nothing else here calls them before [`load`] said that
//! the libraries are there and have every symbol in use.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cudarc::{cublaslt, cudnn, driver, nvrtc};
use libloading::os::unix::{RTLD_GLOBAL, RTLD_NOW};

use crate::device::cuda::{search, symbols};
use crate::device::gpu::GpuError;

/// A library of NVIDIA's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    Driver,
    Nvrtc,
    CublasLt,
    Cudnn,
}

impl Library {
    /// In the order to open them.
    pub const ALL: [Library; 4] = [Library::Driver, Library::Nvrtc, Library::CublasLt, Library::Cudnn];

    pub fn name(self) -> &'static str {
        match self {
            Library::Driver => "CUDA driver",
            Library::Nvrtc => "NVRTC",
            Library::CublasLt => "cuBLASLt",
            Library::Cudnn => "cuDNN",
        }
    }

    /// What its files' names begin with.
    pub fn stem(self) -> &'static str {
        match self {
            Library::Driver => "libcuda",
            Library::Nvrtc => "libnvrtc",
            Library::CublasLt => "libcublasLt",
            Library::Cudnn => "libcudnn",
        }
    }

    /// What is opened by path for it: itself, behind what it leans on.
    fn preloaded(self) -> &'static [&'static str] {
        match self {
            // The driver belongs to the system: only its loader knows the one that fits the kernel module.
            Library::Driver => &[],
            Library::Nvrtc => &["libnvrtc"],
            Library::CublasLt => &["libcublasLt"],
            Library::Cudnn => &["libnvrtc", "libcublasLt", "libcublas", "libcudnn"],
        }
    }

    /// What to do to get it, for a driver of this CUDA major version.
    pub fn how_to_get(self, driver_major: Option<u32>) -> String {
        let old = driver_major == Some(12);
        let package = match self {
            Library::Driver => return "install the GPU's driver from its vendor (CUDA 12 or newer)".to_owned(),
            Library::Nvrtc if old => "nvidia-cuda-nvrtc-cu12",
            Library::Nvrtc => "nvidia-cuda-nvrtc",
            Library::CublasLt if old => "nvidia-cublas-cu12",
            Library::CublasLt => "nvidia-cublas",
            Library::Cudnn if old => "nvidia-cudnn-cu12",
            Library::Cudnn => "nvidia-cudnn-cu13",
        };
        format!("pip install {package}")
    }

    /// The symbols in use here and by the modules beside, of this library.
    fn symbols(self) -> &'static [&'static str] {
        match self {
            Library::Driver => &symbols::DRIVER,
            Library::Nvrtc => &symbols::NVRTC,
            Library::CublasLt => &symbols::CUBLASLT,
            Library::Cudnn => &symbols::CUDNN,
        }
    }
}

/// What is known of one library on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: &'static str,
    pub library: Library,
    /// The file in use; none where the system does not tell.
    pub path: Option<PathBuf>,
    /// As its own version call says: `13.2`, `9.26.0`; for the driver the CUDA version it supports.
    pub version: Option<String>,
    /// Why it cannot be used; none if it can.
    pub problem: Option<String>,
    /// The command or step that gets it, where there is a problem.
    pub remedy: Option<String>,
}

/// Every library, found or not, in the order of [`Library::ALL`]. What is found stays loaded.
pub fn look() -> Vec<Found> {
    Library::ALL.into_iter().map(obtain).collect()
}

/// Name and version of everything that is found, for the record: the driver first, then its kernel module, then the rest.
pub fn versions() -> Vec<(String, String)> {
    let usable = look().into_iter().filter(|found| found.problem.is_none());
    let mut versions: Vec<_> = usable.filter_map(|found| Some((found.name.to_owned(), found.version?))).collect();
    let place = usize::from(!versions.is_empty());
    versions.splice(place..place, kernel_module_version().map(|version| ("NVIDIA kernel module".to_owned(), version)));
    versions
}

/// The release of the driver's kernel module, `580.65.06`, as Linux tells: the exact driver, where the driver's own call
/// knows only the CUDA version it supports.
pub fn kernel_module_version() -> Option<String> {
    release(&std::fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

/// The first word of two or three numbers with dots.
fn release(text: &str) -> Option<String> {
    let is_release = |word: &&str| {
        word.contains('.') && word.split('.').all(|number| !number.is_empty() && number.parse::<u32>().is_ok())
    };
    text.split_whitespace().find(is_release).map(str::to_owned)
}

/// Opens what is needed.
///
/// # Errors
/// [`GpuError::Library`]: what is missing, where was looked and how to get it, for all that is missing at once.
pub fn load(needs: &[Library]) -> Result<(), GpuError> {
    let mut lines = Vec::new();
    let mut packages = Vec::new();
    for found in needs.iter().map(|library| obtain(*library)) {
        let Some(problem) = found.problem else { continue };
        lines.push(format!("{} ({}): {problem}", found.name, found.library.stem()));
        match found.remedy {
            Some(remedy) if remedy.starts_with(PIP) => packages.push(remedy[PIP.len()..].to_owned()),
            Some(remedy) => lines.push(format!("  {remedy}")),
            None => {}
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    if !packages.is_empty() {
        let places: Vec<String> = places().iter().map(|folder| format!("    {}", folder.display())).collect();
        lines.push(format!("  get what is missing with `{PIP}{}`,", packages.join(" ")));
        lines.push("  or name the folders that hold it in ABLATE_CUDA_PATH".to_owned());
        lines.push("  looked where the system's loader looks and in".to_owned());
        lines.extend(if places.is_empty() { vec!["    no other folder".to_owned()] } else { places });
    }
    Err(GpuError::Library(lines.join("\n")))
}

const PIP: &str = "pip install ";

/// The folders of [`search::folders`] and of Python's own answer.
fn places() -> Vec<PathBuf> {
    let mut places = search::folders(&|name| std::env::var_os(name));
    for folder in search::folders_of_python() {
        if !places.contains(&folder) {
            places.push(folder);
        }
    }
    places
}

/// A library, opened at the first call. Whatever was found once is found for good; what was not is looked for anew.
fn obtain(library: Library) -> Found {
    static USABLE: Mutex<BTreeMap<Library, Found>> = Mutex::new(BTreeMap::new());
    let driver_major = match library {
        Library::Driver => None,
        Library::Nvrtc | Library::CublasLt | Library::Cudnn => major(obtain(Library::Driver).version.as_deref()),
    };
    let mut usable = USABLE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = usable.get(&library) {
        return found.clone();
    }
    let found = examined(library, driver_major);
    if found.problem.is_none() {
        usable.insert(library, found.clone());
    }
    found
}

fn examined(library: Library, driver_major: Option<u32>) -> Found {
    for stem in library.preloaded() {
        preload(stem, driver_major);
    }
    let mut found = Found { name: library.name(), library, path: None, version: None, problem: None, remedy: None };
    let problem = if present(library) {
        let missing: Vec<&str> =
            library.symbols().iter().copied().filter(|name| place_of(library, name).is_none()).collect();
        // The version's own symbol stands first.
        found.path = place_of(library, library.symbols()[0]).and_then(file_at);
        if missing.is_empty() {
            found.version = version(library);
            let toolkit_major = toolkit_major(library, found.version.as_deref());
            unfit(library, found.version.as_deref(), toolkit_major, driver_major)
        } else {
            Some(format!("too old, it lacks {}", missing[0]))
        }
    } else {
        Some("not found".to_owned())
    };
    found.remedy = problem.as_ref().map(|_| library.how_to_get(driver_major));
    found.problem = problem;
    found
}

/// What keeps a version from being used. `toolkit_major`: of the CUDA it is made for, which the driver bounds.
fn unfit(
    library: Library,
    version: Option<&str>,
    toolkit_major: Option<u32>,
    driver_major: Option<u32>,
) -> Option<String> {
    let Some(major) = major(version) else { return Some("does not say its version".to_owned()) };
    match library {
        Library::Driver if major < 12 => return Some(format!("supports CUDA {major}, 12 or newer is needed")),
        Library::Cudnn if major != 9 => return Some(format!("version {major}, 9 is needed")),
        Library::Driver | Library::Cudnn | Library::Nvrtc | Library::CublasLt => {}
    }
    let (toolkit, driver) = toolkit_major.zip(driver_major)?;
    (toolkit > driver).then(|| format!("of CUDA {toolkit}, which the driver, of CUDA {driver}, cannot run"))
}

/// The major version of the CUDA that a library which is present is made for; none of the driver.
fn toolkit_major(library: Library, version: Option<&str>) -> Option<u32> {
    match library {
        Library::Driver => None,
        Library::Nvrtc | Library::CublasLt => major(version),
        // SAFETY: the symbol was found; the call takes nothing and returns a number, 13000 for CUDA 13.0.
        Library::Cudnn => u32::try_from(unsafe { cudnn::sys::cudnnGetCudartVersion() } / 1000).ok(),
    }
}

fn major(version: Option<&str>) -> Option<u32> {
    version?.split('.').next()?.parse().ok()
}

/// Opens the first file of a library that opens, for all of the process: the loader then takes it for the one that is asked
/// for by name.
fn preload(stem: &str, major_max: Option<u32>) {
    let open = |folders: &[PathBuf]| {
        // cuDNN counts its versions by itself.
        let bound = major_max.filter(|_| stem != Library::Cudnn.stem());
        search::candidates(folders, stem, bound).iter().any(|path| {
            // SAFETY: these are NVIDIA's libraries, made to be opened; their initialisers ask nothing of the process.
            let opened = unsafe { libloading::os::unix::Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) };
            // Never closed: the bindings keep pointers into it.
            opened.map(std::mem::forget).is_ok()
        })
    };
    if !open(&search::folders(&|name| std::env::var_os(name))) {
        open(&search::folders_of_python());
    }
}

fn present(library: Library) -> bool {
    // SAFETY: opens libraries of these names, as `preload`.
    unsafe {
        match library {
            Library::Driver => driver::sys::is_culib_present(),
            Library::Nvrtc => nvrtc::sys::is_culib_present(),
            Library::CublasLt => cublaslt::sys::is_culib_present(),
            Library::Cudnn => cudnn::sys::is_culib_present(),
        }
    }
}

/// Where a symbol of a library that is present lies.
fn place_of(library: Library, symbol: &str) -> Option<usize> {
    // SAFETY: `present` was true, so these do not panic; the symbol is only looked at, as an address.
    unsafe {
        let opened = match library {
            Library::Driver => driver::sys::culib(),
            Library::Nvrtc => nvrtc::sys::culib(),
            Library::CublasLt => cublaslt::sys::culib(),
            Library::Cudnn => cudnn::sys::culib(),
        };
        opened.get::<*const ()>(symbol.as_bytes()).ok().map(|found| *found as usize)
    }
}

/// The file that is mapped at an address, as Linux tells.
fn file_at(address: usize) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (from, to) = line.split_whitespace().next()?.split_once('-')?;
        let within = (usize::from_str_radix(from, 16).ok()?..usize::from_str_radix(to, 16).ok()?).contains(&address);
        within.then(|| line.find('/').map(|start| PathBuf::from(&line[start..])))?
    })
}

/// The version of a library that is present and has its symbols.
fn version(library: Library) -> Option<String> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the symbols were found; the pointers are to the two integers above, which the calls fill.
    unsafe {
        match library {
            Library::Driver => {
                driver::sys::cuDriverGetVersion(&raw mut major).result().ok()?;
                Some(format!("{}.{}", major / 1000, major % 1000 / 10))
            }
            Library::Nvrtc => {
                nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor).result().ok()?;
                Some(format!("{major}.{minor}"))
            }
            Library::CublasLt => Some(three_numbers(cublaslt::sys::cublasLtGetVersion())),
            Library::Cudnn => Some(three_numbers(cudnn::sys::cudnnGetVersion())),
        }
    }
}

/// 92600 is 9.26.0.
fn three_numbers(version: usize) -> String {
    format!("{}.{}.{}", version / 10_000, version % 10_000 / 100, version % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_bounds_what_every_library_is_made_for() {
        let said = |library, version, toolkit, driver| unfit(library, Some(version), toolkit, driver);
        assert_eq!(said(Library::Cudnn, "9.26.0", Some(12), Some(13)), None);
        assert_eq!(said(Library::Cudnn, "9.26.0", Some(13), None), None);
        for library in [Library::Nvrtc, Library::CublasLt, Library::Cudnn] {
            let problem = said(library, "9.26.0", Some(13), Some(12));
            assert_eq!(problem.as_deref(), Some("of CUDA 13, which the driver, of CUDA 12, cannot run"));
        }
        assert_eq!(said(Library::Cudnn, "8.9.7", Some(12), Some(12)).as_deref(), Some("version 8, 9 is needed"));
        let old = said(Library::Driver, "11.8", None, None);
        assert_eq!(old.as_deref(), Some("supports CUDA 11, 12 or newer is needed"));
        assert_eq!(said(Library::Driver, "12.4", None, None), None);
        assert!(unfit(Library::Cudnn, None, None, None).is_some());
    }
}
