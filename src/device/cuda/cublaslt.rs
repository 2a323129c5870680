//! cublasLt behind safe calls, as far as a dense product needs it: a handle, the heuristic, multiplication.
//!
//! Functions are found by name and numbers are read as numbers, so that a library that is missing, older or newer than
//! the bindings gives an error, never a panic or an enum value that does not exist.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use cudarc::cublaslt::sys;
use cudarc::cublaslt::sys::cublasLtMatmulAlgoCapAttributes_t as Capability;
use cudarc::cublaslt::sys::cublasLtMatmulAlgoConfigAttributes_t as Setting;
use cudarc::cublaslt::sys::cublasLtMatmulDescAttributes_t as OperationAttribute;
use cudarc::cublaslt::sys::cublasLtMatmulPreferenceAttributes_t as PreferenceAttribute;
use cudarc::driver::sys::CUstream;

use crate::device::cuda::column_major::{Operand, Problem};
use crate::device::cuda::product_algorithm::{Configuration, REDUCTION_IN_WORKSPACE};
use crate::device::gpu::{Address, Element, GpuError};

/// `cublasStatus_t` as the number it is.
type Status = u32;
const SUCCESS: Status = 0;
type Raw = *mut c_void;

/// How many algorithms the heuristic is asked for.
const ALGORITHMS_MAX: usize = 32;

/// `cublasLtMatmulAlgo_t`: a plain value.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Algorithm([u64; 8]);

/// `cublasLtMatmulHeuristicResult_t`, its status as a number.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    algorithm: Algorithm,
    workspace_bytes: usize,
    state: Status,
    waves: f32,
    reserved: [c_int; 4],
}

type Destroy = unsafe extern "C" fn(Raw) -> Status;
type Set = unsafe extern "C" fn(Raw, u32, *const c_void, usize) -> Status;
type Get = unsafe extern "C" fn(*const Algorithm, u32, *mut c_void, usize, *mut usize) -> Status;
type Heuristic = unsafe extern "C" fn(Raw, Raw, Raw, Raw, Raw, Raw, Raw, c_int, *mut Found, *mut c_int) -> Status;
type Multiply = unsafe extern "C" fn(
    Raw,
    Raw,
    *const c_void,
    u64,
    Raw,
    u64,
    Raw,
    *const c_void,
    u64,
    Raw,
    u64,
    Raw,
    *const Algorithm,
    u64,
    usize,
    Raw,
) -> Status;

/// The functions in use; all are there since CUDA 11. Places of the device are told as the 64 bits they are.
struct Functions {
    create: unsafe extern "C" fn(*mut Raw) -> Status,
    destroy: Destroy,
    create_operation: unsafe extern "C" fn(*mut Raw, u32, u32) -> Status,
    destroy_operation: Destroy,
    set_operation: Set,
    create_layout: unsafe extern "C" fn(*mut Raw, u32, u64, u64, i64) -> Status,
    destroy_layout: Destroy,
    create_preference: unsafe extern "C" fn(*mut Raw) -> Status,
    destroy_preference: Destroy,
    set_preference: Set,
    heuristic: Heuristic,
    setting: Get,
    capability: Get,
    multiply: Multiply,
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
}

/// # Safety
/// `F` is the type of that function.
unsafe fn find<F: Copy>(name: &str) -> Result<F, GpuError> {
    // SAFETY: `functions` calls this once the library was seen, so `culib` finds it; the caller vouches for the type.
    let found = unsafe { sys::culib().get::<F>(name.as_bytes()) };
    found
        .map(|symbol| *symbol)
        .map_err(|_| GpuError::Library(format!("this cublasLt has no `{name}`; that of CUDA 12 or 13 is needed")))
}

fn functions() -> Result<&'static Functions, GpuError> {
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    if let Some(functions) = FUNCTIONS.get() {
        return Ok(functions);
    }
    // SAFETY: only opens the library by its names and closes it again.
    if !unsafe { sys::is_culib_present() } {
        return Err(GpuError::Library("cublasLt (libcublasLt.so.12 or .13) was not found".to_owned()));
    }
    // SAFETY: each type is the one that `cublasLt.h` declares, with C enums as the u32 and device pointers as the u64
    // that they are and are passed like.
    let found = unsafe {
        Functions {
            create: find("cublasLtCreate")?,
            destroy: find("cublasLtDestroy")?,
            create_operation: find("cublasLtMatmulDescCreate")?,
            destroy_operation: find("cublasLtMatmulDescDestroy")?,
            set_operation: find("cublasLtMatmulDescSetAttribute")?,
            create_layout: find("cublasLtMatrixLayoutCreate")?,
            destroy_layout: find("cublasLtMatrixLayoutDestroy")?,
            create_preference: find("cublasLtMatmulPreferenceCreate")?,
            destroy_preference: find("cublasLtMatmulPreferenceDestroy")?,
            set_preference: find("cublasLtMatmulPreferenceSetAttribute")?,
            heuristic: find("cublasLtMatmulAlgoGetHeuristic")?,
            setting: find("cublasLtMatmulAlgoConfigGetAttribute")?,
            capability: find("cublasLtMatmulAlgoCapGetAttribute")?,
            multiply: find("cublasLtMatmul")?,
            error_string: find("cublasLtGetStatusString")?,
        }
    };
    Ok(FUNCTIONS.get_or_init(|| found))
}

/// One of the library's objects, destroyed with it.
struct Object {
    raw: Raw,
    destroy: Destroy,
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: made by the library together with this function and not destroyed before.
        unsafe { (self.destroy)(self.raw) };
    }
}

fn data_type(element: Element) -> u32 {
    let data_type = match element {
        Element::F32 => sys::cudaDataType_t::CUDA_R_32F,
        Element::Bf16 => sys::cudaDataType_t::CUDA_R_16BF,
    };
    data_type as u32
}

/// The objects that tell the library a problem.
struct Described {
    operation: Object,
    first: Object,
    second: Object,
    result: Object,
}

impl Functions {
    fn check(&self, call: &'static str, status: Status) -> Result<(), GpuError> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: returns a static string that ends with 0.
        let text = unsafe { CStr::from_ptr((self.error_string)(status)) }.to_string_lossy();
        Err(GpuError::Call { call, reason: format!("{text} ({status})") })
    }

    /// # Safety
    /// A `T` is what the attribute is, and `set` belongs to the object.
    unsafe fn set<T>(&self, set: Set, object: &Object, attribute: u32, value: T) -> Result<(), GpuError> {
        // SAFETY: the object lives, and the library reads the bytes of one value.
        let status = unsafe { set(object.raw, attribute, (&raw const value).cast(), size_of::<T>()) };
        self.check("cublasLt…SetAttribute", status)
    }

    fn operation(&self, problem: &Problem) -> Result<Object, GpuError> {
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F as u32;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a place for the object.
        let status = unsafe { (self.create_operation)(&raw mut raw, compute, data_type(Element::F32)) };
        self.check("cublasLtMatmulDescCreate", status)?;
        let object = Object { raw, destroy: self.destroy_operation };
        let (first, second) = (i32::from(problem.first.transposed), i32::from(problem.second.transposed));
        // SAFETY: both attributes are an int32_t, `CUBLAS_OP_N` is 0 and `CUBLAS_OP_T` 1.
        unsafe {
            self.set(self.set_operation, &object, OperationAttribute::CUBLASLT_MATMUL_DESC_TRANSA as u32, first)?;
            self.set(self.set_operation, &object, OperationAttribute::CUBLASLT_MATMUL_DESC_TRANSB as u32, second)?;
        }
        Ok(object)
    }

    fn layout(&self, operand: &Operand) -> Result<Object, GpuError> {
        let (rows, columns, leading) = (operand.rows as u64, operand.columns as u64, operand.leading as i64);
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a place for the object.
        let status = unsafe { (self.create_layout)(&raw mut raw, data_type(operand.element), rows, columns, leading) };
        self.check("cublasLtMatrixLayoutCreate", status)?;
        Ok(Object { raw, destroy: self.destroy_layout })
    }

    fn described(&self, problem: &Problem) -> Result<Described, GpuError> {
        Ok(Described {
            operation: self.operation(problem)?,
            first: self.layout(&problem.first)?,
            second: self.layout(&problem.second)?,
            result: self.layout(&problem.result)?,
        })
    }

    fn preference(&self, problem: &Problem, workspace_bytes: usize) -> Result<Object, GpuError> {
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a place for the object.
        self.check("cublasLtMatmulPreferenceCreate", unsafe { (self.create_preference)(&raw mut raw) })?;
        let object = Object { raw, destroy: self.destroy_preference };
        let bytes = workspace_bytes as u64;
        let attribute = PreferenceAttribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES as u32;
        // SAFETY: the attribute is a uint64_t.
        unsafe { self.set(self.set_preference, &object, attribute, bytes)? };
        let numbers = [
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, REDUCTION_IN_WORKSPACE),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, problem.first.alignment_bytes),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, problem.second.alignment_bytes),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, problem.result.alignment_bytes),
            (PreferenceAttribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, problem.result.alignment_bytes),
        ];
        for (attribute, value) in numbers {
            // SAFETY: the attribute is a uint32_t.
            unsafe { self.set(self.set_preference, &object, attribute as u32, value)? };
        }
        Ok(object)
    }

    /// A setting of at most 32 bits; 0 for one that this library or algorithm does not have. Compute type and
    /// preference forbid the same things, so that 0 hides nothing.
    fn setting(&self, algorithm: &Algorithm, setting: Setting, bytes: usize) -> u32 {
        let (mut value, mut written) = (0u32, 0usize);
        // SAFETY: the library writes at most `bytes` of the 4 that are there.
        let status = unsafe {
            (self.setting)(algorithm, setting as u32, (&raw mut value).cast(), bytes.min(4), &raw mut written)
        };
        if status == SUCCESS { value } else { 0 }
    }

    fn configuration(&self, found: &Found) -> Configuration {
        let algorithm = &found.algorithm;
        let mut numerics = 0u64;
        let capability = Capability::CUBLASLT_ALGO_CAP_NUMERICAL_IMPL_FLAGS as u32;
        let mut written = 0usize;
        // SAFETY: the capability is a uint64_t, and there is room for one.
        let status =
            unsafe { (self.capability)(algorithm, capability, (&raw mut numerics).cast(), 8, &raw mut written) };
        Configuration {
            algorithm: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_ID, 4),
            tile: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_TILE_ID, 4),
            stages: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_STAGES_ID, 4),
            split_k: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 4),
            reduction: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, 4),
            swizzling: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING, 4),
            option: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_CUSTOM_OPTION, 4),
            inner_shape: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID, 2),
            cluster_shape: self.setting(algorithm, Setting::CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID, 2),
            numerics: if status == SUCCESS { numerics } else { 0 },
            workspace_bytes: found.workspace_bytes,
        }
    }
}

/// A problem and the algorithm that computes it.
pub struct Multiplication {
    described: Described,
    algorithm: Algorithm,
    pub configuration: Configuration,
}

/// Where the matrices of one call lie: the column-major first, second and result.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    pub first: Address,
    pub second: Address,
    pub result: Address,
    pub workspace: Address,
}

/// cublasLt's state on the current device; it may serve several streams.
pub struct Handle {
    functions: &'static Functions,
    object: Object,
}

impl Handle {
    /// # Errors
    /// When cublasLt or a device is not there.
    pub fn new() -> Result<Handle, GpuError> {
        let functions = functions()?;
        let mut raw = ptr::null_mut();
        // SAFETY: `raw` is a place for the handle.
        functions.check("cublasLtCreate", unsafe { (functions.create)(&raw mut raw) })?;
        Ok(Handle { functions, object: Object { raw, destroy: functions.destroy } })
    }

    /// The first acceptable algorithm in the heuristic's order that needs at most `workspace_bytes`, if there is one.
    ///
    /// # Errors
    /// When the library refuses the problem.
    pub fn choose(&self, problem: &Problem, workspace_bytes: usize) -> Result<Option<Multiplication>, GpuError> {
        let described = self.functions.described(problem)?;
        let preference = self.functions.preference(problem, workspace_bytes)?;
        let mut found = [Found::default(); ALGORITHMS_MAX];
        let mut count: c_int = 0;
        // SAFETY: all objects live, and the library writes at most the number of results that it is told.
        let status = unsafe {
            (self.functions.heuristic)(
                self.object.raw,
                described.operation.raw,
                described.first.raw,
                described.second.raw,
                described.result.raw,
                described.result.raw,
                preference.raw,
                ALGORITHMS_MAX as c_int,
                found.as_mut_ptr(),
                &raw mut count,
            )
        };
        self.functions.check("cublasLtMatmulAlgoGetHeuristic", status)?;
        let count = usize::try_from(count).unwrap_or(0).min(ALGORITHMS_MAX);
        let usable = found[..count].iter().filter(|it| it.state == SUCCESS && it.workspace_bytes <= workspace_bytes);
        let chosen = usable
            .map(|it| (it.algorithm, self.functions.configuration(it)))
            .find(|(_, configuration)| configuration.is_acceptable(problem.first.element));
        Ok(chosen.map(|(algorithm, configuration)| Multiplication { described, algorithm, configuration }))
    }

    /// Hands a multiplication to a live stream of this handle's device. The workspace has what `choose` was told.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn multiply(
        &self,
        multiplication: &Multiplication,
        places: Places,
        accumulate: bool,
        stream: CUstream,
    ) -> Result<(), GpuError> {
        let Described { operation, first, second, result } = &multiplication.described;
        let (alpha, beta) = (1f32, if accumulate { 1f32 } else { 0f32 });
        // SAFETY: all objects live; alpha and beta are read before the call returns; the places are memory that only
        // the device reads and writes; the stream is the caller's.
        let status = unsafe {
            (self.functions.multiply)(
                self.object.raw,
                operation.raw,
                (&raw const alpha).cast(),
                places.first.0,
                first.raw,
                places.second.0,
                second.raw,
                (&raw const beta).cast(),
                places.result.0,
                result.raw,
                places.result.0,
                result.raw,
                &raw const multiplication.algorithm,
                places.workspace.0,
                multiplication.configuration.workspace_bytes,
                stream.cast(),
            )
        };
        self.functions.check("cublasLtMatmul", status)
    }
}

/// Whether the library takes the objects of a problem; needs no device.
#[cfg(test)]
pub(super) fn describe(problem: &Problem) -> Result<[[u64; 4]; 3], GpuError> {
    type Read = unsafe extern "C" fn(Raw, u32, *mut c_void, usize, *mut usize) -> Status;
    use sys::cublasLtMatrixLayoutAttribute_t as Layout;
    let functions = functions()?;
    // SAFETY: the type that `cublasLt.h` declares.
    let read: Read = unsafe { find("cublasLtMatrixLayoutGetAttribute")? };
    functions.preference(problem, 1 << 20)?;
    let described = functions.described(problem)?;
    let numbers = |layout: &Object| {
        let attributes = [
            (Layout::CUBLASLT_MATRIX_LAYOUT_TYPE, 4),
            (Layout::CUBLASLT_MATRIX_LAYOUT_ROWS, 8),
            (Layout::CUBLASLT_MATRIX_LAYOUT_COLS, 8),
            (Layout::CUBLASLT_MATRIX_LAYOUT_LD, 8),
        ];
        attributes.map(|(attribute, bytes)| {
            let (mut value, mut written) = (0u64, 0usize);
            // SAFETY: the object lives, and there is room for the attribute.
            unsafe { read(layout.raw, attribute as u32, (&raw mut value).cast(), bytes, &raw mut written) };
            value
        })
    };
    Ok([numbers(&described.first), numbers(&described.second), numbers(&described.result)])
}
