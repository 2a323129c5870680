//! A GPU for tests, on the host: the very kernel sources, compiled by the system's C++ compiler behind a small header that
//! plays one block of threads after another, and plain loops in place of the vendor's products and convolutions.
//!
//! Memory is ordinary memory with a guard around every allocation; a write outside is found at the next wait.

mod library;
mod plain;
mod strict;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::device::cuda::convolutions::description;
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::emulator::library::Library;
use crate::device::emulator::strict::Rules;
use crate::device::gpu::{Address, Element, Gpu, GpuError, Graph, Launch, Node, Properties, Source};

/// Bytes before and behind an allocation that nobody may write.
const GUARD_BYTES: usize = 256;
const GUARD: u8 = 0xa5;

/// In which order threads and blocks run between barriers: 0 forward, 1 backward, above shuffled by that seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub threads: i32,
    pub blocks: i32,
}

impl Order {
    pub const FORWARD: Order = Order { threads: 0, blocks: 0 };
    /// Enough to show a missing barrier or blocks that lean on each other.
    pub const SEVERAL: [Order; 4] = [
        Order::FORWARD,
        Order { threads: 1, blocks: 1 },
        Order { threads: 7, blocks: 5 },
        Order { threads: 12, blocks: 0 },
    ];
}

/// The host as a device.
pub struct Emulator {
    order: Order,
    memory_bytes: u64,
    allocations: BTreeMap<u64, Allocation>,
    libraries: Vec<Arc<Library>>,
    graphs: Vec<Vec<Node>>,
    lock: PlanLock,
    /// How each prepared convolution would be computed by a device that takes locks: description and choice.
    choices: BTreeMap<String, String>,
    /// None where nothing has to be prepared or run before it is recorded: what suits the test of an operation.
    rules: Option<Rules>,
}

struct Allocation {
    /// Guard, bytes, guard; 256-byte aligned from `start`.
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Emulator {
    pub fn new(order: Order) -> Emulator {
        Emulator {
            order,
            memory_bytes: 1 << 32,
            allocations: BTreeMap::new(),
            libraries: Vec::new(),
            graphs: Vec::new(),
            lock: PlanLock::default(),
            choices: BTreeMap::new(),
            rules: None,
        }
    }

    /// With the rules of a device: what is computed by a library is prepared before it runs, what is recorded has run before.
    pub fn strict(order: Order) -> Emulator {
        Emulator { rules: Some(Rules::default()), ..Emulator::new(order) }
    }

    /// With less memory, to see what is said when it does not suffice.
    pub fn with_memory(memory_bytes: u64) -> Emulator {
        Emulator { memory_bytes, ..Emulator::new(Order::FORWARD) }
    }

    /// A device with the kernels of one source: what a test of an operation needs.
    ///
    /// # Panics
    /// When the source does not compile.
    pub fn with(order: Order, sources: &[Source], element: Element) -> Emulator {
        let mut emulator = Emulator::new(order);
        emulator.load(sources, element).expect("the kernels compile");
        emulator
    }

    /// A place with these bytes in it.
    pub fn place(&mut self, bytes: &[u8]) -> Address {
        let address = self.allocate(bytes.len()).expect("host memory");
        self.upload(address, bytes).expect("a place of that size");
        address
    }

    /// As [`Emulator::place`], of numbers stored as `element`.
    pub fn place_stored(&mut self, values: &[f32], element: Element) -> Address {
        self.place(&crate::device::gpu::stored(values, element))
    }

    pub fn place_f32(&mut self, values: &[f32]) -> Address {
        self.place_stored(values, Element::F32)
    }

    /// `n` numbers that were stored as `element`.
    pub fn read(&mut self, address: Address, n: usize, element: Element) -> Vec<f32> {
        let mut bytes = vec![0; n * element.bytes()];
        self.download(address, &mut bytes).expect("a place of that size");
        crate::device::gpu::loaded(&bytes, element)
    }

    pub fn read_f32(&mut self, address: Address, n: usize) -> Vec<f32> {
        self.read(address, n, Element::F32)
    }

    fn used_bytes(&self) -> u64 {
        self.allocations.values().map(|allocation| allocation.len as u64).sum()
    }

    /// The bytes from `address` on, `len` of them, inside one allocation.
    fn range(&self, address: Address, len: usize) -> Result<(u64, std::ops::Range<usize>), GpuError> {
        let outside =
            || GpuError::Call { call: "access", reason: format!("{len} bytes at {address:?} are not allocated") };
        let (base, allocation) = self.allocations.range(..=address.0).next_back().ok_or_else(outside)?;
        let offset = (address.0 - base) as usize;
        if offset + len > allocation.len {
            return Err(outside());
        }
        Ok((*base, allocation.start + offset..allocation.start + offset + len))
    }

    fn bytes(&self, address: Address, len: usize) -> Result<&[u8], GpuError> {
        let (base, range) = self.range(address, len)?;
        Ok(&self.allocations[&base].memory[range])
    }

    fn bytes_mut(&mut self, address: Address, len: usize) -> Result<&mut [u8], GpuError> {
        let (base, range) = self.range(address, len)?;
        let allocation = self.allocations.get_mut(&base).expect("the base was just found");
        Ok(&mut allocation.memory[range])
    }

    fn check_guards(&self) -> Result<(), GpuError> {
        for (base, allocation) in &self.allocations {
            let (before, rest) = allocation.memory.split_at(allocation.start);
            let after = &rest[allocation.len..];
            if before.iter().chain(after).any(|byte| *byte != GUARD) {
                let reason = format!("something wrote outside the {} bytes at {base:#x}", allocation.len);
                return Err(GpuError::Call { call: "guard", reason });
            }
        }
        Ok(())
    }

    fn launch(&mut self, launch: &Launch) -> Result<(), GpuError> {
        if let Some(reason) = launch.refusal() {
            return Err(GpuError::Call { call: "launch", reason });
        }
        let library = self.libraries.iter().find(|library| library.has(launch.kernel));
        let library = library.ok_or_else(|| GpuError::Call {
            call: "launch",
            reason: format!("no source that was loaded has a kernel `{}`", launch.kernel),
        })?;
        library.launch(launch, self.order);
        Ok(())
    }

    fn carry_out(&mut self, node: &Node) -> Result<(), GpuError> {
        if let Some(rules) = &mut self.rules {
            rules.run(node)?;
        }
        match node {
            Node::Launch(launch) => self.launch(launch),
            Node::Product(product) => plain::product(self, product),
            Node::Convolution(call) => plain::convolution(self, call),
            Node::Zero { address, bytes } => {
                self.bytes_mut(*address, *bytes)?.fill(0);
                Ok(())
            }
            Node::Copy { from, to, bytes } => {
                let copied = self.bytes(*from, *bytes)?.to_vec();
                self.bytes_mut(*to, *bytes)?.copy_from_slice(&copied);
                Ok(())
            }
            // One after another is one of the orders a device may choose.
            Node::Side(nodes) => self.run(nodes),
            Node::Join => Ok(()),
        }
    }
}

impl Gpu for Emulator {
    fn properties(&self) -> Properties {
        Properties {
            name: "host emulation".to_owned(),
            architecture: "host".to_owned(),
            memory_bytes: self.memory_bytes,
            free_bytes: self.memory_bytes - self.used_bytes(),
            versions: Vec::new(),
        }
    }

    fn load(&mut self, sources: &[Source], element: Element) -> Result<(), GpuError> {
        for source in sources {
            self.libraries.push(Library::compiled(source, element)?);
        }
        Ok(())
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError> {
        let free_bytes = self.memory_bytes - self.used_bytes();
        if bytes as u64 > free_bytes {
            return Err(GpuError::OutOfMemory { needed_bytes: bytes as u64, free_bytes });
        }
        let mut memory = vec![GUARD; bytes + 3 * GUARD_BYTES];
        let start = GUARD_BYTES + memory[GUARD_BYTES..].as_ptr().align_offset(GUARD_BYTES);
        memory[start..start + bytes].fill(0);
        let address = memory[start..].as_ptr() as u64;
        self.allocations.insert(address, Allocation { memory, start, len: bytes });
        Ok(Address(address))
    }

    fn release(&mut self, address: Address) -> Result<(), GpuError> {
        self.check_guards()?;
        self.allocations.remove(&address.0);
        Ok(())
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        self.bytes_mut(to, bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.check_guards()?;
        bytes.copy_from_slice(self.bytes(from, bytes.len())?);
        Ok(())
    }

    /// There is one way to compute here: a lock changes what is told, no bit of a result.
    fn lock_plans(&mut self, lock: &PlanLock) {
        self.lock = lock.clone();
    }

    fn prepare(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        if let Some(rules) = &mut self.rules {
            rules.prepare(nodes)?;
        }
        for node in nodes {
            match node {
                Node::Convolution(call) => {
                    let description = description(&call.shape, call.pass);
                    let locked = self.lock.choices.get(&description);
                    let choice = locked.map_or("unlocked".to_owned(), |choice| format!("engine {}", choice.engine));
                    self.choices.insert(description, choice);
                }
                Node::Side(nodes) => self.prepare(nodes)?,
                Node::Launch(_) | Node::Product(_) | Node::Zero { .. } | Node::Copy { .. } | Node::Join => {}
            }
        }
        Ok(())
    }

    fn run(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        nodes.iter().try_for_each(|node| self.carry_out(node))
    }

    fn record(&mut self, nodes: &[Node]) -> Result<Graph, GpuError> {
        if let Some(rules) = &self.rules {
            rules.record(nodes)?;
        }
        self.graphs.push(nodes.to_vec());
        Ok(Graph(self.graphs.len() - 1))
    }

    fn replay(&mut self, graph: Graph) -> Result<(), GpuError> {
        let nodes = self.graphs[graph.0].clone();
        self.run(&nodes)
    }

    fn synchronize(&mut self) -> Result<(), GpuError> {
        self.check_guards()
    }

    fn choices(&self) -> Vec<(String, String)> {
        self.choices.clone().into_iter().collect()
    }
}
