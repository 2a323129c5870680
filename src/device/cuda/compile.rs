//! Kernel sources to machine code with NVRTC.
//!
//! Always machine code (CUBIN) for one architecture, never PTX: a driver refuses the PTX of a newer toolkit.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::Path;

use cudarc::nvrtc::sys;

use crate::device::cuda::cubin_cache;
use crate::device::cuda::libraries::{self, Library};
use crate::device::gpu::{Element, GpuError, PRELUDE, Source};

/// Without contraction, so that a kernel rounds as the emulation does: fused only where it says `fmaf`.
const OPTIONS: [&str; 3] = ["--std=c++17", "--fmad=false", "--extra-device-vectorization"];

/// The machine code of a source for an architecture such as `sm_90`, from `cache` if it was compiled before.
///
/// # Errors
/// [`GpuError::Library`] without NVRTC, [`GpuError::Compile`] with its log.
pub fn cubin(source: &Source, element: Element, architecture: &str, cache: Option<&Path>) -> Result<Vec<u8>, GpuError> {
    libraries::load(&[Library::Nvrtc])?;
    let text = text(source, element);
    let options = options(architecture, false);
    let key = cubin_cache::key(&[&version()?, &options.join(" "), &text]);
    if let Some(code) = cache.and_then(|folder| cubin_cache::read(folder, &key)) {
        return Ok(code);
    }
    let (code, _) = compiled(source.name, &text, architecture, &options)?;
    if let Some(folder) = cache {
        cubin_cache::write(folder, &key, &code);
    }
    Ok(code)
}

/// What the compiler says of every kernel of a source: registers, shared memory, spills.
///
/// # Errors
/// As [`cubin`].
pub fn resources(source: &Source, element: Element, architecture: &str) -> Result<String, GpuError> {
    libraries::load(&[Library::Nvrtc])?;
    compiled(source.name, &text(source, element), architecture, &options(architecture, true)).map(|(_, log)| log)
}

/// The names in a source's `KERNEL_EXPORT(...)` lines.
pub fn kernels(text: &str) -> Vec<&str> {
    let exports = text.lines().filter(|line| line.trim_start().starts_with("KERNEL_EXPORT("));
    exports
        .flat_map(|line| line.split("KERNEL_EXPORT(").skip(1))
        .filter_map(|rest| rest.split_once(')').map(|(name, _)| name.trim()))
        .collect()
}

/// The translation unit: how activations are stored, the prelude, the source with its own line numbers.
fn text(source: &Source, element: Element) -> String {
    let storage = match element {
        Element::F32 => "",
        Element::Bf16 => "#define STORAGE_BF16\n",
    };
    format!("{storage}{PRELUDE}\n#line 1 \"{}.cu\"\n{}", source.name, source.text)
}

fn options(architecture: &str, verbose: bool) -> Vec<String> {
    let mut options = vec![format!("--gpu-architecture={architecture}")];
    options.extend(OPTIONS.map(str::to_owned));
    options.extend(verbose.then(|| "--ptxas-options=-v".to_owned()));
    options
}

fn version() -> Result<String, GpuError> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: NVRTC was loaded, and fills the two integers.
    check("nvrtcVersion", unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) })?;
    Ok(format!("{major}.{minor}"))
}

/// Machine code and log.
fn compiled(name: &str, text: &str, architecture: &str, options: &[String]) -> Result<(Vec<u8>, String), GpuError> {
    let failed =
        |log: String| GpuError::Compile { source_name: name.to_owned(), architecture: architecture.to_owned(), log };
    let zero = |_| failed("a zero byte stands in the source or an option".to_owned());
    let text = CString::new(text).map_err(zero)?;
    let options = options.iter().map(|option| CString::new(option.as_str())).collect::<Result<Vec<_>, _>>();
    let program = Program::new(&text)?;
    let done = program.compile(&options.map_err(zero)?);
    let log = program.log()?;
    match done {
        sys::nvrtcResult::NVRTC_SUCCESS => Ok((program.code()?, log)),
        error if log.is_empty() => Err(failed(format!("{error:?}"))),
        _ => Err(failed(log)),
    }
}

/// A program of NVRTC's; exists only once the library was loaded.
struct Program {
    handle: sys::nvrtcProgram,
}

impl Program {
    fn new(text: &CStr) -> Result<Program, GpuError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: both strings end with a zero and outlive the call, which copies them; there are no headers.
        let made = unsafe {
            sys::nvrtcCreateProgram(
                &raw mut handle,
                text.as_ptr(),
                c"kernel.cu".as_ptr(),
                0,
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        check("nvrtcCreateProgram", made)?;
        Ok(Program { handle })
    }

    fn compile(&self, options: &[CString]) -> sys::nvrtcResult {
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // SAFETY: the program lives, the array holds as many strings as it says.
        unsafe { sys::nvrtcCompileProgram(self.handle, pointers.len() as c_int, pointers.as_ptr()) }
    }

    fn log(&self) -> Result<String, GpuError> {
        let mut size = 0;
        // SAFETY: the program lives, the size is filled in.
        check("nvrtcGetProgramLogSize", unsafe { sys::nvrtcGetProgramLogSize(self.handle, &raw mut size) })?;
        let mut bytes = vec![0u8; size];
        // SAFETY: the buffer has the size that was asked for.
        check("nvrtcGetProgramLog", unsafe { sys::nvrtcGetProgramLog(self.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches(['\0', '\n']).to_owned())
    }

    fn code(&self) -> Result<Vec<u8>, GpuError> {
        let mut size = 0;
        // SAFETY: the program lives and is compiled, the size is filled in.
        check("nvrtcGetCUBINSize", unsafe { sys::nvrtcGetCUBINSize(self.handle, &raw mut size) })?;
        let mut bytes = vec![0u8; size];
        // SAFETY: the buffer has the size that was asked for.
        check("nvrtcGetCUBIN", unsafe { sys::nvrtcGetCUBIN(self.handle, bytes.as_mut_ptr().cast()) })?;
        Ok(bytes)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: made by `nvrtcCreateProgram`, destroyed this once.
        let _ = unsafe { sys::nvrtcDestroyProgram(&raw mut self.handle) };
    }
}

fn check(call: &'static str, result: sys::nvrtcResult) -> Result<(), GpuError> {
    match result {
        sys::nvrtcResult::NVRTC_SUCCESS => Ok(()),
        error => Err(GpuError::Call { call, reason: format!("{error:?}") }),
    }
}
