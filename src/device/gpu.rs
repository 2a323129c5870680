//! What a GPU is asked to do, as plain data: a step is a list of [`Node`]s with every address and size in it.
//!
//! Whatever makes nodes is pure and runs anywhere; a [`Gpu`] carries them out. There are two of them: the CUDA device, and
//! in tests a host emulation that runs the same kernel sources.

use crate::device::cuda::plan_lock::PlanLock;

/// How the numbers of activations, their gradients and the weights that products read are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    F32,
    Bf16,
}

impl Element {
    pub fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 => 2,
        }
    }
}

/// The nearest bf16 of a value, ties to even; NaN stays NaN.
pub fn bf16_from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

pub fn f32_from_bf16(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

/// A place in the device's memory. 0 is no place: a kernel takes it for "absent".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address(pub u64);

impl Address {
    pub const NONE: Address = Address(0);

    /// `bytes` further on.
    pub fn offset(self, bytes: usize) -> Address {
        Address(self.0 + bytes as u64)
    }
}

/// One argument of a kernel; its variant is the parameter's C type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Argument {
    /// A pointer.
    Address(Address),
    /// `int`
    I32(i32),
    /// `unsigned`
    U32(u32),
    /// `unsigned long long`
    U64(u64),
    /// `float`
    F32(f32),
    /// `double`
    F64(f64),
}

/// One kernel over a grid that depends on shapes alone, never on the device.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    pub kernel: &'static str,
    /// Blocks.
    pub grid: [u32; 3],
    /// Threads a block; at most 1024 in all.
    pub block: [u32; 3],
    /// Dynamic shared memory; above 48 KiB the device raises the kernel's limit.
    pub shared_bytes: u32,
    pub arguments: Vec<Argument>,
}

/// Blocks along the second and third axis; along the first there may be 2³¹ − 1.
const GRID_MAX: u32 = 65_535;
/// Threads a block, in all and along each axis.
const BLOCK_MAX: u32 = 1024;
const BLOCK_MAX_EACH: [u32; 3] = [1024, 1024, 64];
/// Shared memory that every device from sm_80 on grants a block that asks for it: 99 KiB.
const SHARED_BYTES_MAX: u32 = 99 << 10;

impl Launch {
    /// What some device would refuse (CUDA C++ Programming Guide, technical specifications from compute capability 8.0 on);
    /// none where all take it.
    pub fn refusal(&self) -> Option<String> {
        let Launch { kernel, grid, block, shared_bytes, .. } = self;
        let of_grid = [i32::MAX as u32, GRID_MAX, GRID_MAX];
        let fits =
            |sizes: &[u32; 3], most: [u32; 3]| sizes.iter().zip(most).all(|(size, most)| (1..=most).contains(size));
        let threads = block.iter().map(|side| u64::from(*side)).product::<u64>();
        if !fits(grid, of_grid) {
            return Some(format!(
                "{kernel}: a grid of {grid:?} blocks, at most {of_grid:?} and at least 1 are possible"
            ));
        }
        if !fits(block, BLOCK_MAX_EACH) || threads > u64::from(BLOCK_MAX) {
            return Some(format!("{kernel}: a block of {block:?} threads, at most {BLOCK_MAX} in all are possible"));
        }
        let too_much = *shared_bytes > SHARED_BYTES_MAX;
        too_much.then(|| {
            format!("{kernel}: {shared_bytes} bytes of shared memory, at most {SHARED_BYTES_MAX} are possible")
        })
    }
}

/// A dense matrix, row after row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    pub address: Address,
    pub element: Element,
    /// Numbers from one row to the next.
    pub stride: usize,
}

/// c = a · b, or c += a · b; a is m×k, b is k×n, c is m×n. Sums are kept in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a: Matrix,
    /// `a` is stored k×m.
    pub a_transposed: bool,
    pub b: Matrix,
    /// `b` is stored n×k.
    pub b_transposed: bool,
    pub c: Matrix,
    pub accumulate: bool,
}

/// Sizes of a convolution without bias: x is images × height × width × inputs, the weight outputs × kernel × kernel ×
/// inputs, y images × out_height × out_width × outputs; all stored as `element`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Convolution {
    pub images: usize,
    pub height: usize,
    pub width: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
    pub element: Element,
}

impl Convolution {
    pub fn out_height(&self) -> usize {
        (self.height + 2 * self.padding - self.kernel) / self.stride + 1
    }

    pub fn out_width(&self) -> usize {
        (self.width + 2 * self.padding - self.kernel) / self.stride + 1
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pass {
    /// y from x and the weight.
    Forward,
    /// The gradient of x from that of y and the weight.
    InputGradient,
    /// The gradient of the weight from x and the gradient of y.
    WeightGradient,
}

/// One pass of a convolution. In a backward pass `y` holds the gradient of y, and the place that is written holds the
/// gradient of what stands there: `x` or `weight`. What was there before is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolutionCall {
    pub shape: Convolution,
    pub pass: Pass,
    pub x: Address,
    pub weight: Address,
    pub y: Address,
}

/// One piece of work. Nodes run in order, but that what stands between `Fork` and `Join` in `Side` may overlap with what
/// follows the `Side` before the `Join`.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Launch(Launch),
    Product(Product),
    Convolution(ConvolutionCall),
    Zero {
        address: Address,
        bytes: usize,
    },
    Copy {
        from: Address,
        to: Address,
        bytes: usize,
    },
    /// Begins once everything before it is done and runs beside everything behind it, up to the next `Join`.
    Side(Vec<Node>),
    /// Waits for every `Side` so far.
    Join,
}

/// A kernel source: one translation unit behind the prelude.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// For messages: `batch_norm`.
    pub name: &'static str,
    pub text: &'static str,
}

/// What stands before every kernel source: types, storage, fixed-order reductions, the exponential.
pub const PRELUDE: &str = include_str!("prelude.cuh");

/// What is known of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Properties {
    pub name: String,
    /// `sm_90`
    pub architecture: String,
    pub memory_bytes: u64,
    pub free_bytes: u64,
    /// Library names and versions, the driver's first.
    pub versions: Vec<(String, String)>,
}

/// Why a device did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    #[error("needs {needed_bytes} bytes of the device's memory, {free_bytes} are free")]
    OutOfMemory { needed_bytes: u64, free_bytes: u64 },
    /// A library is missing or too old; the text says what to do.
    #[error("{0}")]
    Library(String),
    #[error("kernel source `{source_name}` does not compile for {architecture}:\n{log}")]
    Compile { source_name: String, architecture: String, log: String },
    #[error("no deterministic way to compute {0}")]
    NoPlan(String),
    #[error("{call} failed: {reason}")]
    Call { call: &'static str, reason: String },
}

/// A recorded list of nodes, replayed at one stroke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Graph(pub usize);

/// Carries out nodes, in order, without waiting for them: only `download` and `synchronize` wait.
pub trait Gpu {
    fn properties(&self) -> Properties;

    /// Compiles (or finds compiled) and loads kernels for one way of storing; their names must be new.
    fn load(&mut self, sources: &[Source], element: Element) -> Result<(), GpuError>;

    /// Zeroed bytes at a multiple of 256, until `release` or the device's end.
    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError>;

    fn release(&mut self, address: Address) -> Result<(), GpuError>;

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError>;

    /// Waits for all work before it.
    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError>;

    /// From now on the lock's convolutions are computed as it says. What was prepared or recorded before is to be so again.
    fn lock_plans(&mut self, lock: &PlanLock);

    /// Chooses how the convolutions and products among the nodes are computed and makes room for them. To be called before
    /// the nodes are run or recorded.
    fn prepare(&mut self, nodes: &[Node]) -> Result<(), GpuError>;

    fn run(&mut self, nodes: &[Node]) -> Result<(), GpuError>;

    /// Records prepared nodes without running them.
    fn record(&mut self, nodes: &[Node]) -> Result<Graph, GpuError>;

    fn replay(&mut self, graph: Graph) -> Result<(), GpuError>;

    fn synchronize(&mut self) -> Result<(), GpuError>;

    /// What was chosen for each convolution and product so far, for the record: description and choice.
    fn choices(&self) -> Vec<(String, String)>;
}

/// Numbers as the bytes of f32, for `Gpu::upload`.
pub fn bytes_of_f32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn bytes_of_u32(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// As many f32 as there are bytes for.
pub fn f32_of_bytes(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Numbers stored as `element`.
pub fn stored(values: &[f32], element: Element) -> Vec<u8> {
    match element {
        Element::F32 => bytes_of_f32(values),
        Element::Bf16 => values.iter().flat_map(|value| bf16_from_f32(*value).to_le_bytes()).collect(),
    }
}

/// The reverse of [`stored`].
pub fn loaded(bytes: &[u8], element: Element) -> Vec<f32> {
    match element {
        Element::F32 => f32_of_bytes(bytes),
        Element::Bf16 => {
            bytes.as_chunks::<2>().0.iter().map(|bytes| f32_from_bf16(u16::from_le_bytes(*bytes))).collect()
        }
    }
}
