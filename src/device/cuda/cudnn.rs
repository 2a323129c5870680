//! cuDNN's backend API behind safe calls, as far as a convolution needs it: descriptors, a handle, execution.
//!
//! Functions are found by name and numbers are read as numbers, so that a library that is missing, older or newer than
//! the bindings gives an error, never a panic or an enum value that does not exist.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::rc::Rc;
use std::sync::OnceLock;

use cudarc::cudnn::sys;
pub use cudarc::cudnn::sys::cudnnBackendAttributeName_t as Attribute;
use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
pub use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;
use cudarc::driver::sys::CUstream;

use crate::device::gpu::{Address, GpuError};

/// More remarks than an engine can have; there are 10 kinds in cuDNN 9.21.
const NOTES_MAX: usize = 64;

/// `cudnnStatus_t` as the number it is.
type Status = u32;
const SUCCESS: Status = 0;
type RawDescriptor = *mut c_void;
type RawHandle = *mut c_void;

/// The functions in use; all are there since cuDNN 9.0.
struct Functions {
    create_handle: unsafe extern "C" fn(*mut RawHandle) -> Status,
    destroy_handle: unsafe extern "C" fn(RawHandle) -> Status,
    set_stream: unsafe extern "C" fn(RawHandle, *mut c_void) -> Status,
    create_descriptor: unsafe extern "C" fn(u32, *mut RawDescriptor) -> Status,
    destroy_descriptor: unsafe extern "C" fn(RawDescriptor) -> Status,
    set_attribute: unsafe extern "C" fn(RawDescriptor, u32, u32, i64, *const c_void) -> Status,
    get_attribute: unsafe extern "C" fn(RawDescriptor, u32, u32, i64, *mut i64, *mut c_void) -> Status,
    finalize: unsafe extern "C" fn(RawDescriptor) -> Status,
    execute: unsafe extern "C" fn(RawHandle, RawDescriptor, RawDescriptor) -> Status,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    last_error: unsafe extern "C" fn(*mut c_char, usize),
    version: unsafe extern "C" fn() -> usize,
}

/// # Safety
/// `F` is the type of that function.
unsafe fn find<F: Copy>(name: &str) -> Result<F, GpuError> {
    // SAFETY: `functions` calls this once the library was seen, so `culib` finds it; the caller vouches for the type.
    let found = unsafe { sys::culib().get::<F>(name.as_bytes()) };
    found.map(|symbol| *symbol).map_err(|_| GpuError::Library(format!("this cuDNN has no `{name}`; cuDNN 9 is needed")))
}

fn functions() -> Result<&'static Functions, GpuError> {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    if let Some(functions) = FUNCTIONS.get() {
        return Ok(functions);
    }
    // SAFETY: only opens the library by its names and closes it again.
    if !unsafe { sys::is_culib_present() } {
        return Err(GpuError::Library("cuDNN 9 (libcudnn.so.9) was not found".to_owned()));
    }
    // SAFETY: each type is the one that `cudnn_graph.h` and `cudnn_ops.h` declare, with C enums as the u32 they are.
    let found = unsafe {
        Functions {
            create_handle: find("cudnnCreate")?,
            destroy_handle: find("cudnnDestroy")?,
            set_stream: find("cudnnSetStream")?,
            create_descriptor: find("cudnnBackendCreateDescriptor")?,
            destroy_descriptor: find("cudnnBackendDestroyDescriptor")?,
            set_attribute: find("cudnnBackendSetAttribute")?,
            get_attribute: find("cudnnBackendGetAttribute")?,
            finalize: find("cudnnBackendFinalize")?,
            execute: find("cudnnBackendExecute")?,
            error_string: find("cudnnGetErrorString")?,
            last_error: find("cudnnGetLastErrorString")?,
            version: find("cudnnGetVersion")?,
        }
    };
    Ok(FUNCTIONS.get_or_init(|| found))
}

impl Functions {
    fn check(&self, call: &'static str, status: Status) -> Result<(), GpuError> {
        if status == SUCCESS {
            return Ok(());
        }
        let mut detail = [0u8; 512];
        // SAFETY: the library writes at most that many bytes, and returns a static string that ends with 0.
        let name = unsafe {
            (self.last_error)(detail.as_mut_ptr().cast::<c_char>(), detail.len());
            CStr::from_ptr((self.error_string)(status)).to_string_lossy()
        };
        let detail = CStr::from_bytes_until_nul(&detail).unwrap_or_default().to_string_lossy();
        Err(GpuError::Call { call, reason: format!("{name} ({status}) {detail}").trim_end().to_owned() })
    }
}

/// The library's version as it counts itself: 92600 is 9.26.0.
///
/// # Errors
/// When cuDNN is not there.
pub fn version() -> Result<usize, GpuError> {
    let functions = functions()?;
    // SAFETY: takes nothing and returns a number.
    Ok(unsafe { (functions.version)() })
}

/// cuDNN's state on the current device, bound to one stream at a time.
pub struct Handle {
    functions: &'static Functions,
    raw: RawHandle,
}

impl Handle {
    /// Allocates on the device, so not while a stream is being captured.
    ///
    /// # Errors
    /// When cuDNN or a device is not there.
    pub fn new() -> Result<Handle, GpuError> {
        let functions = functions()?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a place for the handle.
        functions.check("cudnnCreate", unsafe { (functions.create_handle)(&raw mut raw) })?;
        Ok(Handle { functions, raw })
    }

    /// What is executed from now on runs in `stream`, a live stream of the device the handle was made on.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn set_stream(&self, stream: CUstream) -> Result<(), GpuError> {
        // SAFETY: the handle lives; the stream is the caller's, and the driver checks it.
        self.functions.check("cudnnSetStream", unsafe { (self.functions.set_stream)(self.raw, stream.cast()) })
    }

    /// Runs a finalized plan on the places that a finalized variant pack names.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn execute(&self, plan: &Descriptor, pack: &Descriptor) -> Result<(), GpuError> {
        // SAFETY: all three live; the places are the device's memory, which only the device reads and writes.
        let status = unsafe { (self.functions.execute)(self.raw, plan.raw, pack.raw) };
        self.functions.check("cudnnBackendExecute", status)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: made by `new` and not destroyed before; descriptors that name it keep it alive.
        unsafe { (self.functions.destroy_handle)(self.raw) };
    }
}

/// What a descriptor names and must not outlive.
enum Kept {
    Descriptor { _descriptor: Rc<Descriptor> },
    Handle { _handle: Rc<Handle> },
}

/// A number that stands for one of several things, with what kind of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    DataType(sys::cudnnDataType_t),
    ConvolutionMode(sys::cudnnConvolutionMode_t),
    HeuristicMode(sys::cudnnBackendHeurMode_t),
    /// As the library gave it.
    Knob(u32),
}

/// An object of the backend API. It is filled by values, finalized, and then read.
pub struct Descriptor {
    functions: &'static Functions,
    raw: RawDescriptor,
    kept: Vec<Kept>,
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by `new` and not destroyed before; descriptors that name it keep it alive.
        unsafe { (self.functions.destroy_descriptor)(self.raw) };
    }
}

impl Descriptor {
    /// # Errors
    /// When cuDNN is not there or does not know the kind.
    pub fn new(kind: Kind) -> Result<Descriptor, GpuError> {
        let functions = functions()?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a place for the descriptor.
        let status = unsafe { (functions.create_descriptor)(kind as u32, &raw mut raw) };
        functions.check("cudnnBackendCreateDescriptor", status)?;
        Ok(Descriptor { functions, raw, kept: Vec::new() })
    }

    /// # Safety
    /// A `T` is what the library stores for `of`.
    unsafe fn set<T>(self, attribute: Attribute, of: Type, values: &[T]) -> Result<Descriptor, GpuError> {
        let (count, values) = (values.len() as i64, values.as_ptr().cast::<c_void>());
        // SAFETY: the library reads `count` values, which are of the type it is told.
        let status = unsafe { (self.functions.set_attribute)(self.raw, attribute as u32, of as u32, count, values) };
        self.functions.check("cudnnBackendSetAttribute", status)?;
        Ok(self)
    }

    /// # Errors
    /// Here and in what follows: when the library refuses attribute or value.
    pub fn numbers(self, attribute: Attribute, values: &[i64]) -> Result<Descriptor, GpuError> {
        // SAFETY: i64 is int64_t.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_INT64, values) }
    }

    pub fn float(self, attribute: Attribute, value: f32) -> Result<Descriptor, GpuError> {
        // SAFETY: f32 is float.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_FLOAT, &[value]) }
    }

    pub fn text(self, attribute: Attribute, text: &str) -> Result<Descriptor, GpuError> {
        // SAFETY: bytes are char.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_CHAR, text.as_bytes()) }
    }

    pub fn code(self, attribute: Attribute, code: Code) -> Result<Descriptor, GpuError> {
        let (of, number) = match code {
            Code::DataType(of) => (Type::CUDNN_TYPE_DATA_TYPE, of as u32),
            Code::ConvolutionMode(mode) => (Type::CUDNN_TYPE_CONVOLUTION_MODE, mode as u32),
            Code::HeuristicMode(mode) => (Type::CUDNN_TYPE_HEUR_MODE, mode as u32),
            Code::Knob(knob) => (Type::CUDNN_TYPE_KNOB_TYPE, knob),
        };
        // SAFETY: these are C enums, of u32's size.
        unsafe { self.set(attribute, of, &[number]) }
    }

    /// Places in the device's memory.
    pub fn places(self, attribute: Attribute, places: &[Address]) -> Result<Descriptor, GpuError> {
        let places: Vec<u64> = places.iter().map(|place| place.0).collect();
        // SAFETY: a pointer on every system with CUDA is 64 bits; the host never follows it.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_VOID_PTR, &places) }
    }

    /// Other descriptors; they live as long as this one.
    pub fn descriptors(mut self, attribute: Attribute, of: &[&Rc<Descriptor>]) -> Result<Descriptor, GpuError> {
        let raw: Vec<RawDescriptor> = of.iter().map(|descriptor| descriptor.raw).collect();
        self.kept.extend(of.iter().map(|descriptor| Kept::Descriptor { _descriptor: Rc::clone(descriptor) }));
        // SAFETY: the descriptors live, now and as long as `kept`.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &raw) }
    }

    pub fn handle(mut self, attribute: Attribute, handle: &Rc<Handle>) -> Result<Descriptor, GpuError> {
        self.kept.push(Kept::Handle { _handle: Rc::clone(handle) });
        // SAFETY: the handle lives, now and as long as `kept`.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_HANDLE, &[handle.raw]) }
    }

    /// # Errors
    /// When something is missing or the library cannot do what is described.
    pub fn finalize(self) -> Result<Rc<Descriptor>, GpuError> {
        // SAFETY: the descriptor lives.
        let status = unsafe { (self.functions.finalize)(self.raw) };
        self.functions.check("cudnnBackendFinalize", status)?;
        Ok(Rc::new(self))
    }

    /// # Safety
    /// A `T` is what the library stores for `of`, and any bits make one.
    unsafe fn get<T>(&self, attribute: Attribute, of: Type, values: &mut [T]) -> Result<usize, GpuError> {
        let (room, mut count) = (values.len() as i64, 0i64);
        let into = if values.is_empty() { ptr::null_mut() } else { values.as_mut_ptr().cast::<c_void>() };
        let get = self.functions.get_attribute;
        // SAFETY: the library writes at most `room` values of the type it is told.
        let status = unsafe { get(self.raw, attribute as u32, of as u32, room, &raw mut count, into) };
        self.functions.check("cudnnBackendGetAttribute", status)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// # Safety
    /// As `get`.
    unsafe fn all<T: Copy + Default>(&self, attribute: Attribute, of: Type) -> Result<Vec<T>, GpuError> {
        // SAFETY: without room the library only counts; then it has room for what it counted.
        unsafe {
            let mut values = vec![T::default(); self.get::<T>(attribute, of, &mut [])?];
            let count = if values.is_empty() { 0 } else { self.get(attribute, of, &mut values)? };
            values.truncate(count);
            Ok(values)
        }
    }

    pub fn read_numbers(&self, attribute: Attribute) -> Result<Vec<i64>, GpuError> {
        // SAFETY: int64_t is i64.
        unsafe { self.all(attribute, Type::CUDNN_TYPE_INT64) }
    }

    /// What the library remarks on an engine's numerics. Read with room, so that a count that were told wrong could not
    /// make an engine look better than it is.
    pub fn read_notes(&self) -> Result<Vec<u32>, GpuError> {
        let (attribute, of) = (Attribute::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, Type::CUDNN_TYPE_NUMERICAL_NOTE);
        let mut notes = vec![0u32; NOTES_MAX];
        // SAFETY: a C enum, of u32's size.
        let count = unsafe { self.get(attribute, of, &mut notes)? };
        notes.truncate(count);
        Ok(notes)
    }

    pub fn read_knob(&self) -> Result<Vec<u32>, GpuError> {
        // SAFETY: a C enum, of u32's size.
        unsafe { self.all(Attribute::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, Type::CUDNN_TYPE_KNOB_TYPE) }
    }

    pub fn read_text(&self, attribute: Attribute) -> Result<String, GpuError> {
        // SAFETY: char is a byte.
        let bytes: Vec<u8> = unsafe { self.all(attribute, Type::CUDNN_TYPE_CHAR)? };
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }

    /// Descriptors of `kind` that this one holds; it lives as long as they do.
    pub fn read_descriptors(
        self: &Rc<Self>,
        attribute: Attribute,
        kind: Kind,
    ) -> Result<Vec<Rc<Descriptor>>, GpuError> {
        let of = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        // SAFETY: without room the library only counts.
        let count = unsafe { self.get::<RawDescriptor>(attribute, of, &mut [])? };
        self.read_at_most(attribute, kind, count)
    }

    /// As [`Descriptor::read_descriptors`], of attributes that the library does not count without room.
    pub fn read_at_most(
        self: &Rc<Self>,
        attribute: Attribute,
        kind: Kind,
        count: usize,
    ) -> Result<Vec<Rc<Descriptor>>, GpuError> {
        let of = Type::CUDNN_TYPE_BACKEND_DESCRIPTOR;
        let mut found = (0..count).map(|_| Descriptor::new(kind)).collect::<Result<Vec<_>, _>>()?;
        let mut raw: Vec<RawDescriptor> = found.iter().map(|descriptor| descriptor.raw).collect();
        if !raw.is_empty() {
            // SAFETY: the library fills the descriptors that are handed to it.
            let filled = unsafe { self.get(attribute, of, &mut raw)? };
            found.truncate(filled);
        }
        for descriptor in &mut found {
            descriptor.kept.push(Kept::Descriptor { _descriptor: Rc::clone(self) });
        }
        Ok(found.into_iter().map(Rc::new).collect())
    }
}

/// Opens cuDNN and what it leans on from the folders in `ABLATE_CUDA_PATH`; whether cuDNN is there now.
#[cfg(test)]
pub(super) fn preload() -> bool {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let folders = std::env::var_os("ABLATE_CUDA_PATH").unwrap_or_default();
    for name in ["libnvrtc.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcudnn.so.9"] {
        for folder in std::env::split_paths(&folders) {
            // SAFETY: NVIDIA's libraries run nothing on loading that this process could disturb; they stay loaded.
            if let Ok(library) = unsafe { Library::open(Some(folder.join(name)), RTLD_NOW | RTLD_GLOBAL) } {
                std::mem::forget(library);
                break;
            }
        }
    }
    functions().is_ok()
}
