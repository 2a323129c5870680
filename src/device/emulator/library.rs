//! Kernel sources as host libraries: compiled once for each content, loaded, called by name.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use crate::device::emulator::Order;
use crate::device::gpu::{Argument, Element, GpuError, Launch, PRELUDE, Source};

const SHIM: &str = include_str!("shim.h");

/// As the device's compiler: no contraction, so that a product and a sum round the same way on both.
const FLAGS: [&str; 8] = [
    "-std=c++20",
    "-O1",
    "-fPIC",
    "-shared",
    "-ffp-contract=off",
    "-fno-gnu-unique",
    "-fvisibility=hidden",
    "-Wno-unknown-pragmas",
];

/// One loaded source. Its blocks share what the header keeps, so one launch runs at a time.
pub struct Library {
    inner: libloading::Library,
    running: Mutex<()>,
}

/// `void shim_<kernel>(const unsigned* grid, const unsigned* block, unsigned shared_bytes, void** arguments)`
type Entry = unsafe extern "C" fn(*const u32, *const u32, u32, *mut *mut c_void);

impl Library {
    /// The library of a source, compiled if this content never was.
    pub fn compiled(source: &Source, element: Element) -> Result<Arc<Library>, GpuError> {
        static LOADED: OnceLock<Mutex<BTreeMap<String, Arc<Library>>>> = OnceLock::new();
        let text = match element {
            Element::F32 => format!("{PRELUDE}\n#line 1 \"{}.cu\"\n{}", source.name, source.text),
            Element::Bf16 => {
                format!("#define STORAGE_BF16\n{PRELUDE}\n#line 1 \"{}.cu\"\n{}", source.name, source.text)
            }
        };
        let digest = blake3::hash(format!("{FLAGS:?}\n{SHIM}\n{text}").as_bytes()).to_hex();
        let name = format!("{}-{}", source.name, &digest[..24]);
        let mut loaded = LOADED.get_or_init(Mutex::default).lock().expect("no test panics while it compiles");
        if let Some(library) = loaded.get(&name) {
            return Ok(Arc::clone(library));
        }
        let path = folder().join(format!("{name}.so"));
        if !path.exists() {
            compile(source, &text, &path)?;
        }
        // SAFETY: the file is made by `compile` from our own sources; their static initialisers only build empty vectors.
        let inner = unsafe { libloading::Library::new(&path) };
        let inner = inner.map_err(|error| GpuError::Call { call: "dlopen", reason: error.to_string() })?;
        let library = Arc::new(Library { inner, running: Mutex::new(()) });
        loaded.insert(name, Arc::clone(&library));
        Ok(library)
    }

    pub fn has(&self, kernel: &str) -> bool {
        self.entry(kernel).is_some()
    }

    fn entry(&self, kernel: &str) -> Option<libloading::Symbol<'_, Entry>> {
        // SAFETY: every `shim_` symbol is made by KERNEL_EXPORT, whose signature is that of `Entry`.
        unsafe { self.inner.get(format!("shim_{kernel}").as_bytes()) }.ok()
    }

    /// # Panics
    /// When there is no such kernel.
    pub fn launch(&self, launch: &Launch, order: Order) {
        let entry = self.entry(launch.kernel).expect("the kernel was looked up before");
        let mut values: Vec<u64> = launch.arguments.iter().map(|argument| bits(*argument)).collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        // A test that panicked inside a launch spoils nothing: the next launch sets everything anew.
        let _running = self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: `shim_order` is exported by the header with this signature. The entry reads one value for each parameter,
        // of the size its variant says (little-endian words hold smaller ones in their first bytes). The kernel itself reads
        // and writes through addresses the caller put in: that is what a kernel is, and the guards tell where it strays.
        unsafe {
            let set: libloading::Symbol<'_, unsafe extern "C" fn(i32, i32)> =
                self.inner.get(b"shim_order").expect("exported by the header");
            set(order.threads, order.blocks);
            entry(launch.grid.as_ptr(), launch.block.as_ptr(), launch.shared_bytes, pointers.as_mut_ptr());
        }
    }
}

fn bits(argument: Argument) -> u64 {
    match argument {
        Argument::Address(address) => address.0,
        Argument::I32(value) => u64::from(value.cast_unsigned()),
        Argument::U32(value) => value.into(),
        Argument::U64(value) => value,
        Argument::F32(value) => value.to_bits().into(),
        Argument::F64(value) => value.to_bits(),
    }
}

/// Where compiled kernels are kept between test runs.
fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target")).join("emulated-kernels")
}

fn compile(source: &Source, text: &str, path: &Path) -> Result<(), GpuError> {
    let failed = |reason: String| GpuError::Call { call: "c++", reason };
    let folder = path.with_extension("build");
    std::fs::create_dir_all(&folder).map_err(|error| failed(error.to_string()))?;
    let (file, made) = (folder.join("kernel.cpp"), folder.join("kernel.so"));
    let written = std::fs::write(&file, text).and_then(|()| std::fs::write(folder.join("shim.h"), SHIM));
    written.map_err(|error| failed(error.to_string()))?;
    // A command with words, such as `python3 -m ziglang c++`, will do.
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut words = compiler.split_whitespace();
    let program = words.next().unwrap_or("c++");
    let output = Command::new(program).args(words).args(FLAGS).arg(&file).arg("-o").arg(&made).output();
    let output = output.map_err(|error| {
        failed(format!("the tests of the kernels need a C++20 compiler, `{compiler}` does not start: {error}; set CXX"))
    })?;
    if !output.status.success() {
        return Err(GpuError::Compile {
            source_name: source.name.to_owned(),
            architecture: "host".to_owned(),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
        });
    }
    std::fs::rename(&made, path).map_err(|error| failed(error.to_string()))?;
    std::fs::remove_dir_all(&folder).map_err(|error| failed(error.to_string()))
}
