//! An NVIDIA GPU: nodes carried out by CUDA, in two streams, recorded as graphs.
//!
//! ```text
//! search, libraries   find and open NVIDIA's libraries at run time
//! compile             kernel source -> machine code, kept by content (cubin_cache)
//! driver              the driver's objects: context, memory, streams, events, modules, graphs
//! convolutions        cuDNN: convolution_plans, plan_lock, plan_file, tuning
//! products            cuBLASLt: column_major, product_algorithm
//! CudaGpu             all of it as a `Gpu`
//! ```

mod argument;
pub mod column_major;
pub mod compile;
pub mod convolution_plans;
pub mod convolutions;
pub mod cubin_cache;
mod cublaslt;
pub mod cudnn;
mod driver;
pub mod libraries;
pub mod plan_file;
pub mod plan_lock;
mod product_algorithm;
pub mod products;
pub mod search;
mod symbols;
#[cfg(test)]
mod tests;
mod tuning;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::device::cuda::convolutions::{Convolutions, Target};
use crate::device::cuda::driver::{Context, Event, Function, Memory, Module, Pinned, Recording, Stream};
pub use crate::device::cuda::driver::{Device, device, device_count};
use crate::device::cuda::libraries::Library;
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::cuda::products::Products;
use crate::device::gpu::{Address, Element, Gpu, GpuError, Graph, Node, Properties, Source};

/// Uploads up to this size do not wait for the device. A step's own data is far below.
const STAGED_BYTES: usize = 256 << 10;
/// How many uploads may be under way.
const STAGED_UPLOADS: usize = 4;

/// An NVIDIA GPU. It belongs to the thread that made it.
///
/// Nodes run in one stream, those in `Side` in a second one. A list of nodes that leaves a `Side` open is joined at its end,
/// so that what follows may rest on all of it.
pub struct CudaGpu {
    // Dropped in this order: what uses the context first, the context last.
    convolutions: Convolutions,
    products: Products,
    recordings: Vec<Recording>,
    kernels: HashMap<String, Function>,
    allocations: BTreeMap<Address, Memory>,
    /// Scratch space of the libraries, one for each stream.
    workspaces: Lanes<Option<Memory>>,
    /// Smaller workspaces that recordings still point to.
    outgrown: Vec<Memory>,
    staging: Vec<Pinned>,
    uploads: usize,
    fork: Event,
    join: Event,
    streams: Lanes<Stream>,
    /// Something was put in the side stream and not waited for.
    side_open: bool,
    cache: Option<PathBuf>,
    context: Rc<Context>,
}

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Main,
    Side,
}

/// One of something for each stream.
struct Lanes<T> {
    main: T,
    side: T,
}

impl<T> Lanes<T> {
    fn of(&self, lane: Lane) -> &T {
        match lane {
            Lane::Main => &self.main,
            Lane::Side => &self.side,
        }
    }

    fn of_mut(&mut self, lane: Lane) -> &mut T {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Side => &mut self.side,
        }
    }
}

impl CudaGpu {
    /// The GPU of that number, counted from 0 as the driver shows them.
    ///
    /// # Errors
    /// [`GpuError::Library`] when a library or the GPU is missing, with what to do.
    pub fn new(ordinal: usize) -> Result<CudaGpu, GpuError> {
        libraries::load(&Library::ALL)?;
        let context = Context::of(device(ordinal)?)?;
        let staging = (0..STAGED_UPLOADS).map(|_| Pinned::new(&context, STAGED_BYTES)).collect::<Result<_, _>>()?;
        Ok(CudaGpu {
            convolutions: Convolutions::new(Target::Current)?,
            products: Products::new()?,
            recordings: Vec::new(),
            kernels: HashMap::new(),
            allocations: BTreeMap::new(),
            workspaces: Lanes { main: None, side: None },
            outgrown: Vec::new(),
            staging,
            uploads: 0,
            fork: Event::new(&context)?,
            join: Event::new(&context)?,
            streams: Lanes { main: Stream::new(&context)?, side: Stream::new(&context)? },
            side_open: false,
            cache: cubin_cache::folder(&|name| std::env::var_os(name)),
            context,
        })
    }

    /// How the convolutions so far are computed, to be locked on another day.
    pub fn plans(&self) -> PlanLock {
        self.convolutions.lock()
    }

    /// Fails unless these bytes lie inside one allocation.
    fn check(&self, address: Address, bytes: usize) -> Result<(), GpuError> {
        let holder = self.allocations.range(..=address).next_back();
        let inside = holder.is_some_and(|(start, memory)| {
            let offset = (address.0 - start.0) as usize;
            bytes <= memory.bytes && offset <= memory.bytes - bytes
        });
        if inside {
            return Ok(());
        }
        Err(GpuError::Call { call: "access", reason: format!("{bytes} bytes at {address:?} are not allocated") })
    }

    /// Chooses for every product and convolution; says in which streams there is one.
    fn choose(&mut self, nodes: &[Node], lane: Lane, used: &mut Lanes<bool>) -> Result<(), GpuError> {
        for node in nodes {
            match node {
                Node::Product(product) => {
                    self.products.prepare(product)?;
                    *used.of_mut(lane) = true;
                }
                Node::Convolution(call) => {
                    self.convolutions.prepare(&call.shape, call.pass)?;
                    self.convolutions.bind(self.streams.of(lane).handle())?;
                    *used.of_mut(lane) = true;
                }
                Node::Side(nodes) => self.choose(nodes, Lane::Side, used)?,
                Node::Launch(_) | Node::Zero { .. } | Node::Copy { .. } | Node::Join => {}
            }
        }
        Ok(())
    }

    /// Makes a stream's workspace at least that large.
    fn grow(&mut self, lane: Lane, bytes: usize) -> Result<(), GpuError> {
        if self.workspaces.of(lane).as_ref().map_or(0, |memory| memory.bytes) >= bytes {
            return Ok(());
        }
        self.wait()?;
        let smaller = self.workspaces.of_mut(lane).take();
        // A recording holds the address; without one the old goes before the new comes.
        if !self.recordings.is_empty() {
            self.outgrown.extend(smaller);
        }
        *self.workspaces.of_mut(lane) = Some(Memory::new(&self.context, bytes)?);
        Ok(())
    }

    fn workspace(&self, lane: Lane) -> Address {
        self.workspaces.of(lane).as_ref().map_or(Address::NONE, Memory::address)
    }

    fn carry_out(&mut self, nodes: &[Node], lane: Lane) -> Result<(), GpuError> {
        for node in nodes {
            let stream = self.streams.of(lane);
            match node {
                Node::Launch(launch) => {
                    // The driver says no more than that a value is invalid.
                    if let Some(reason) = launch.refusal() {
                        return Err(GpuError::Call { call: "launch", reason });
                    }
                    let kernel = self.kernels.get(launch.kernel).ok_or_else(|| GpuError::Call {
                        call: "launch",
                        reason: format!("no source that was loaded has a kernel `{}`", launch.kernel),
                    })?;
                    stream.launch(kernel, launch)?;
                }
                Node::Product(product) => {
                    let (workspace, stream) = (self.workspace(lane), stream.handle());
                    self.products.execute(product, workspace, stream)?;
                }
                Node::Convolution(call) => {
                    let (workspace, stream) = (self.workspace(lane), stream.handle());
                    self.convolutions.execute(call, workspace, stream)?;
                }
                // Nothing to do, which the driver may take for a mistake.
                Node::Zero { bytes: 0, .. } | Node::Copy { bytes: 0, .. } => {}
                Node::Zero { address, bytes } => {
                    self.check(*address, *bytes)?;
                    stream.zero(*address, *bytes)?;
                }
                Node::Copy { from, to, bytes } => {
                    self.check(*from, *bytes)?;
                    self.check(*to, *bytes)?;
                    stream.copy(*from, *to, *bytes)?;
                }
                Node::Side(nodes) => {
                    if lane == Lane::Main {
                        self.fork()?;
                    }
                    self.carry_out(nodes, Lane::Side)?;
                }
                // Within a side, every side so far came before in the same stream.
                Node::Join => {
                    if lane == Lane::Main {
                        self.join()?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What follows in the side stream begins behind all that is in the main stream.
    fn fork(&mut self) -> Result<(), GpuError> {
        self.streams.main.record(&self.fork)?;
        self.streams.side.wait(&self.fork)?;
        self.side_open = true;
        Ok(())
    }

    /// What follows in the main stream begins behind all that is in the side stream.
    fn join(&mut self) -> Result<(), GpuError> {
        if self.side_open {
            self.streams.side.record(&self.join)?;
            self.streams.main.wait(&self.join)?;
            self.side_open = false;
        }
        Ok(())
    }

    /// Waits for both streams.
    fn wait(&self) -> Result<(), GpuError> {
        self.context.bind()?;
        self.streams.main.synchronize()?;
        self.streams.side.synchronize()
    }
}

impl Gpu for CudaGpu {
    fn properties(&self) -> Properties {
        let Device { name, architecture, memory_bytes, .. } = &self.context.device;
        Properties {
            name: name.clone(),
            architecture: architecture.clone(),
            memory_bytes: *memory_bytes,
            // A device that does not answer has none to give.
            free_bytes: self.context.free_bytes().unwrap_or(0),
            versions: libraries::versions(),
        }
    }

    fn load(&mut self, sources: &[Source], element: Element) -> Result<(), GpuError> {
        self.context.bind()?;
        let (architecture, cache) = (self.context.device.architecture.as_str(), self.cache.as_deref());
        // In the order of the sources, so that of several that do not compile the same one is told.
        let compiled: Vec<_> =
            sources.par_iter().map(|source| compile::cubin(source, element, architecture, cache)).collect();
        for (source, cubin) in sources.iter().zip(compiled) {
            let module = Module::new(&self.context, &cubin?)?;
            for name in compile::kernels(source.text) {
                if self.kernels.contains_key(name) {
                    let reason = format!("a kernel `{name}` was loaded before that of `{}`", source.name);
                    return Err(GpuError::Call { call: "load", reason });
                }
                self.kernels.insert(name.to_owned(), module.function(name)?);
            }
        }
        Ok(())
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError> {
        let memory = Memory::new(&self.context, bytes)?;
        let address = memory.address();
        self.streams.main.zero(address, bytes.max(1))?;
        self.allocations.insert(address, memory);
        Ok(address)
    }

    fn release(&mut self, address: Address) -> Result<(), GpuError> {
        self.wait()?;
        self.allocations.remove(&address);
        Ok(())
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        self.context.bind()?;
        self.check(to, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.len() > STAGED_BYTES {
            return self.streams.main.upload(to, bytes);
        }
        self.uploads += 1;
        let staged = &mut self.staging[self.uploads % STAGED_UPLOADS];
        self.streams.main.upload_through(staged, to, bytes)
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.context.bind()?;
        self.check(from, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        // Every list of nodes ends joined: behind the main stream's work is behind all work.
        self.streams.main.download(from, bytes)
    }

    fn lock_plans(&mut self, lock: &PlanLock) {
        self.convolutions.locked(lock);
    }

    fn prepare(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        self.context.bind()?;
        let mut used = Lanes { main: false, side: false };
        self.choose(nodes, Lane::Main, &mut used)?;
        let bytes = self.convolutions.workspace_bytes().max(self.products.workspace_bytes());
        for lane in [Lane::Main, Lane::Side] {
            if *used.of(lane) {
                self.grow(lane, bytes)?;
            }
        }
        Ok(())
    }

    fn run(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        self.context.bind()?;
        let done = self.carry_out(nodes, Lane::Main);
        // Joined even where something failed: what was begun in the side stream is not left behind.
        done.and(self.join())
    }

    fn record(&mut self, nodes: &[Node]) -> Result<Graph, GpuError> {
        self.context.bind()?;
        self.streams.main.begin_recording()?;
        let done = self.carry_out(nodes, Lane::Main).and_then(|()| self.join());
        // The recording must end even where something failed, which then is what is told.
        let recording = self.streams.main.end_recording();
        self.side_open = false;
        done?;
        self.recordings.push(recording?);
        Ok(Graph(self.recordings.len() - 1))
    }

    fn replay(&mut self, graph: Graph) -> Result<(), GpuError> {
        self.context.bind()?;
        let recording = self.recordings.get(graph.0).ok_or_else(|| GpuError::Call {
            call: "replay",
            reason: format!("nothing was recorded as number {}", graph.0),
        })?;
        self.streams.main.replay(recording)
    }

    fn synchronize(&mut self) -> Result<(), GpuError> {
        self.wait()
    }

    fn choices(&self) -> Vec<(String, String)> {
        let mut choices = self.convolutions.choices();
        choices.extend(self.products.choices());
        choices
    }
}

impl Drop for CudaGpu {
    fn drop(&mut self) {
        // The fields are freed behind this: nothing may still be using them. A device that fails has nothing left to use.
        let _ = self.wait();
    }
}
