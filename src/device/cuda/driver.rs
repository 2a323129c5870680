//! The CUDA driver's objects, each freed when it is dropped and none before what it belongs to.
//!
//! Everything here exists only once `libraries::load` found the driver with every symbol in use. A context is current for a
//! thread: whoever calls has bound it there, what makes and frees objects does so by itself.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::rc::Rc;

use cudarc::driver::sys::{self, CUresult, CUstream};

use crate::device::cuda::argument::word;
use crate::device::cuda::libraries::{self, Library};
use crate::device::gpu::{Address, GpuError, Launch};

/// Dynamic shared memory a kernel may have unasked.
const SHARED_BYTES_UNASKED: u32 = 48 << 10;

fn check(call: &'static str, result: CUresult) -> Result<(), GpuError> {
    match result {
        CUresult::CUDA_SUCCESS => Ok(()),
        error => Err(GpuError::Call { call, reason: format!("{error:?}") }),
    }
}

/// How many GPUs the driver shows; none is no error.
pub fn device_count() -> Result<usize, GpuError> {
    libraries::load(&[Library::Driver])?;
    // SAFETY: the driver is loaded; the flags must be zero.
    match unsafe { sys::cuInit(0) } {
        CUresult::CUDA_ERROR_NO_DEVICE => return Ok(0),
        CUresult::CUDA_ERROR_STUB_LIBRARY => {
            let reason = "libcuda.so is the toolkit's empty stand-in, not a driver; take it out of LD_LIBRARY_PATH";
            return Err(GpuError::Library(reason.to_owned()));
        }
        result => check("cuInit", result)?,
    }
    let mut count = 0;
    // SAFETY: fills the integer.
    check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    /// `sm_90`
    pub architecture: String,
    pub memory_bytes: u64,
    handle: sys::CUdevice,
}

/// The GPU of that number, from 0 on.
pub fn device(ordinal: usize) -> Result<Device, GpuError> {
    let count = device_count()?;
    if ordinal >= count {
        return Err(GpuError::Library(format!("there is no GPU {ordinal}: the driver finds {count}, counted from 0")));
    }
    let (mut handle, mut memory_bytes, mut name, mut major, mut minor) = (0, 0, [0u8; 256], 0, 0);
    let major_of = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    let minor_of = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
    // SAFETY: the driver is initialised, the ordinal is one it has, every pointer is to a place of that type, the name is as
    // long as it says.
    unsafe {
        check("cuDeviceGet", sys::cuDeviceGet(&raw mut handle, ordinal as c_int))?;
        check("cuDeviceGetName", sys::cuDeviceGetName(name.as_mut_ptr().cast::<c_char>(), 256, handle))?;
        check("cuDeviceTotalMem", sys::cuDeviceTotalMem_v2(&raw mut memory_bytes, handle))?;
        check("cuDeviceGetAttribute", sys::cuDeviceGetAttribute(&raw mut major, major_of, handle))?;
        check("cuDeviceGetAttribute", sys::cuDeviceGetAttribute(&raw mut minor, minor_of, handle))?;
    }
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Device {
        name: String::from_utf8_lossy(name).into_owned(),
        architecture: format!("sm_{major}{minor}"),
        memory_bytes: memory_bytes as u64,
        handle,
    })
}

/// A GPU in use by this process: its primary context, which cuDNN and cuBLASLt share.
#[derive(Debug)]
pub struct Context {
    pub device: Device,
    handle: sys::CUcontext,
}

impl Context {
    pub fn of(device: Device) -> Result<Rc<Context>, GpuError> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the device is one the driver gave; fills the handle.
        check("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut handle, device.handle) })?;
        let context = Rc::new(Context { device, handle });
        context.bind()?;
        Ok(context)
    }

    /// Makes it the calling thread's.
    pub fn bind(&self) -> Result<(), GpuError> {
        // SAFETY: retained until drop.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.handle) })
    }

    pub fn free_bytes(&self) -> Result<u64, GpuError> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: fills both numbers.
        check("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok(free as u64)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, released this once; whatever lives in it holds an `Rc` of it.
        let _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device.handle) };
    }
}

/// A thing of the driver's in a context, freed on drop by the call that is kept with it.
#[derive(Debug)]
struct Owned<H: Copy> {
    context: Rc<Context>,
    handle: H,
    free: unsafe fn(H) -> CUresult,
}

impl<H: Copy> Owned<H> {
    /// Made by `create`, which fills in the handle; `empty` stands there before.
    fn new(
        context: &Rc<Context>,
        call: &'static str,
        empty: H,
        create: impl FnOnce(*mut H) -> CUresult,
        free: unsafe fn(H) -> CUresult,
    ) -> Result<Owned<H>, GpuError> {
        context.bind()?;
        let mut handle = empty;
        check(call, create(&raw mut handle))?;
        Ok(Owned { context: Rc::clone(context), handle, free })
    }
}

impl<H: Copy> Drop for Owned<H> {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: made once, freed this once, by the call that belongs to its kind.
            let _ = unsafe { (self.free)(self.handle) };
        }
    }
}

/// Bytes on the device, not zeroed.
#[derive(Debug)]
pub struct Memory {
    inner: Owned<sys::CUdeviceptr>,
    pub bytes: usize,
}

impl Memory {
    pub fn new(context: &Rc<Context>, bytes: usize) -> Result<Memory, GpuError> {
        let mut out_of_memory = false;
        let create = |address| {
            // SAFETY: fills the address. No bytes at all would be an error: then one.
            let result = unsafe { sys::cuMemAlloc_v2(address, bytes.max(1)) };
            out_of_memory = result == CUresult::CUDA_ERROR_OUT_OF_MEMORY;
            result
        };
        match Owned::new(context, "cuMemAlloc", 0, create, sys::cuMemFree_v2) {
            Ok(inner) => Ok(Memory { inner, bytes }),
            Err(_) if out_of_memory => {
                Err(GpuError::OutOfMemory { needed_bytes: bytes as u64, free_bytes: context.free_bytes()? })
            }
            Err(error) => Err(error),
        }
    }

    pub fn address(&self) -> Address {
        Address(self.inner.handle)
    }
}

/// Host memory the device reads by itself while the host goes on, and whether it is done with it.
#[derive(Debug)]
pub struct Pinned {
    inner: Owned<*mut c_void>,
    bytes: usize,
    read: Event,
}

impl Pinned {
    pub fn new(context: &Rc<Context>, bytes: usize) -> Result<Pinned, GpuError> {
        // SAFETY: fills the pointer.
        let create = |start| unsafe { sys::cuMemAllocHost_v2(start, bytes) };
        let inner = Owned::new(context, "cuMemAllocHost", std::ptr::null_mut(), create, sys::cuMemFreeHost)?;
        Ok(Pinned { inner, bytes, read: Event::new(context)? })
    }
}

/// A point in a stream that another stream or the host can wait for.
#[derive(Debug)]
pub struct Event {
    inner: Owned<sys::CUevent>,
}

impl Event {
    pub fn new(context: &Rc<Context>) -> Result<Event, GpuError> {
        let flags = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: fills the handle.
        let create = |handle| unsafe { sys::cuEventCreate(handle, flags) };
        let inner = Owned::new(context, "cuEventCreate", std::ptr::null_mut(), create, sys::cuEventDestroy_v2)?;
        Ok(Event { inner })
    }
}

/// Loaded machine code.
#[derive(Debug)]
pub struct Module {
    inner: Owned<sys::CUmodule>,
}

impl Module {
    /// From a CUBIN.
    pub fn new(context: &Rc<Context>, cubin: &[u8]) -> Result<Rc<Module>, GpuError> {
        // SAFETY: a CUBIN is an ELF file, which holds its own size; the bytes come whole from the compiler, or from the cache
        // with a digest that fits.
        let create = |handle| unsafe { sys::cuModuleLoadData(handle, cubin.as_ptr().cast::<c_void>()) };
        let inner = Owned::new(context, "cuModuleLoadData", std::ptr::null_mut(), create, sys::cuModuleUnload)?;
        Ok(Rc::new(Module { inner }))
    }

    pub fn function(self: &Rc<Module>, name: &str) -> Result<Function, GpuError> {
        let missing = |reason| GpuError::Call { call: "cuModuleGetFunction", reason: format!("{name}: {reason}") };
        let symbol = CString::new(name).map_err(|error| missing(error.to_string()))?;
        let mut handle = std::ptr::null_mut();
        // SAFETY: the module lives, the name ends with a zero.
        match unsafe { sys::cuModuleGetFunction(&raw mut handle, self.inner.handle, symbol.as_ptr()) } {
            CUresult::CUDA_SUCCESS => {
                Ok(Function { _module: Rc::clone(self), handle, shared_bytes_max: Cell::new(SHARED_BYTES_UNASKED) })
            }
            error => Err(missing(format!("{error:?}"))),
        }
    }
}

/// A kernel.
#[derive(Debug)]
pub struct Function {
    _module: Rc<Module>,
    handle: sys::CUfunction,
    shared_bytes_max: Cell<u32>,
}

impl Function {
    /// Allows that much dynamic shared memory.
    fn raise(&self, shared_bytes: u32) -> Result<(), GpuError> {
        if shared_bytes > self.shared_bytes_max.get() {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            let value = c_int::try_from(shared_bytes).unwrap_or(c_int::MAX);
            // SAFETY: the function lives with its module.
            check("cuFuncSetAttribute", unsafe { sys::cuFuncSetAttribute(self.handle, attribute, value) })?;
            self.shared_bytes_max.set(shared_bytes);
        }
        Ok(())
    }
}

/// A recorded stream, ready to be launched at one stroke.
#[derive(Debug)]
pub struct Recording {
    inner: Owned<sys::CUgraphExec>,
}

/// A queue of work on the device. Addresses must be inside what was allocated: whoever calls has checked it.
#[derive(Debug)]
pub struct Stream {
    inner: Owned<CUstream>,
}

impl Stream {
    /// One that waits for no other by itself: only such a stream can be recorded.
    pub fn new(context: &Rc<Context>) -> Result<Stream, GpuError> {
        let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
        // SAFETY: fills the handle.
        let create = |handle| unsafe { sys::cuStreamCreate(handle, flags) };
        let inner = Owned::new(context, "cuStreamCreate", std::ptr::null_mut(), create, sys::cuStreamDestroy_v2)?;
        Ok(Stream { inner })
    }

    /// For the libraries that compute in it.
    pub fn handle(&self) -> CUstream {
        self.inner.handle
    }

    pub fn synchronize(&self) -> Result<(), GpuError> {
        // SAFETY: the stream lives.
        check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.handle()) })
    }

    /// The event happens once everything so far is done.
    pub fn record(&self, event: &Event) -> Result<(), GpuError> {
        // SAFETY: both live.
        check("cuEventRecord", unsafe { sys::cuEventRecord(event.inner.handle, self.handle()) })
    }

    /// What follows waits for the event.
    pub fn wait(&self, event: &Event) -> Result<(), GpuError> {
        // SAFETY: both live; the flags must be zero.
        check("cuStreamWaitEvent", unsafe { sys::cuStreamWaitEvent(self.handle(), event.inner.handle, 0) })
    }

    /// At least one byte.
    pub fn zero(&self, address: Address, bytes: usize) -> Result<(), GpuError> {
        // SAFETY: the caller checked the range.
        check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(address.0, 0, bytes, self.handle()) })
    }

    pub fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<(), GpuError> {
        // SAFETY: the caller checked both ranges.
        check("cuMemcpyDtoDAsync", unsafe { sys::cuMemcpyDtoDAsync_v2(to.0, from.0, bytes, self.handle()) })
    }

    /// Waits until the bytes are there.
    pub fn upload(&self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        let from = bytes.as_ptr().cast::<c_void>();
        // SAFETY: the caller checked the device's range, the host's is read until the wait below is over.
        check("cuMemcpyHtoDAsync", unsafe { sys::cuMemcpyHtoDAsync_v2(to.0, from, bytes.len(), self.handle()) })?;
        self.synchronize()
    }

    /// Takes the bytes and goes on; waits only for the last use of the same pinned memory. At most as many as that holds.
    pub fn upload_through(&self, pinned: &mut Pinned, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        assert!(bytes.len() <= pinned.bytes, "as many bytes as the pinned memory holds");
        // SAFETY: the event lives; where nothing was recorded yet, this returns at once.
        check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(pinned.read.inner.handle) })?;
        let start = pinned.inner.handle;
        // SAFETY: the pinned memory has room, is borrowed mutably and no longer read by the device; it stays until the event
        // below, or its owner waits for the stream before it drops it. The caller checked the device's range.
        check("cuMemcpyHtoDAsync", unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast::<u8>(), bytes.len());
            sys::cuMemcpyHtoDAsync_v2(to.0, start, bytes.len(), self.handle())
        })?;
        self.record(&pinned.read)
    }

    /// Waits until the bytes are here.
    pub fn download(&self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        let to = bytes.as_mut_ptr().cast::<c_void>();
        // SAFETY: the caller checked the device's range, the host's is borrowed until the wait below is over.
        check("cuMemcpyDtoHAsync", unsafe { sys::cuMemcpyDtoHAsync_v2(to, from.0, bytes.len(), self.handle()) })?;
        self.synchronize()
    }

    pub fn launch(&self, function: &Function, launch: &Launch) -> Result<(), GpuError> {
        function.raise(launch.shared_bytes)?;
        let mut values: Vec<u64> = launch.arguments.iter().map(|argument| word(*argument)).collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let ([x, y, z], [i, j, k]) = (launch.grid, launch.block);
        let (arguments, none) = (pointers.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: the function lives with its module. The driver reads one value for each parameter, of the size its type has
        // (little-endian words hold smaller ones in their first bytes), before the call returns. What the kernel reads and
        // writes are the addresses the caller put in.
        let result = unsafe {
            sys::cuLaunchKernel(function.handle, x, y, z, i, j, k, launch.shared_bytes, self.handle(), arguments, none)
        };
        match result {
            CUresult::CUDA_SUCCESS => Ok(()),
            error => Err(GpuError::Call { call: "cuLaunchKernel", reason: format!("{}: {error:?}", launch.kernel) }),
        }
    }

    /// What follows is recorded instead of done, on this thread, up to [`Stream::end_recording`].
    pub fn begin_recording(&self) -> Result<(), GpuError> {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives.
        check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(self.handle(), mode) })
    }

    /// Ends the recording, whether or not it went well.
    pub fn end_recording(&self) -> Result<Recording, GpuError> {
        let context = &self.inner.context;
        // SAFETY: the stream lives; the call fills the graph.
        let create = |graph| unsafe { sys::cuStreamEndCapture(self.handle(), graph) };
        let graph = Owned::new(context, "cuStreamEndCapture", std::ptr::null_mut(), create, sys::cuGraphDestroy)?;
        // SAFETY: the graph lives until the end of this function; what is made of it needs it no longer. No flags.
        let create = |made| unsafe { sys::cuGraphInstantiateWithFlags(made, graph.handle, 0) };
        let free = sys::cuGraphExecDestroy;
        let inner = Owned::new(context, "cuGraphInstantiate", std::ptr::null_mut(), create, free)?;
        // SAFETY: both live.
        check("cuGraphUpload", unsafe { sys::cuGraphUpload(inner.handle, self.handle()) })?;
        Ok(Recording { inner })
    }

    pub fn replay(&self, recording: &Recording) -> Result<(), GpuError> {
        // SAFETY: both live.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(recording.inner.handle, self.handle()) })
    }
}
