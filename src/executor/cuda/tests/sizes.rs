//! The nodes of large trainings, on a device of paper: no number is computed, but every address, grid and size is looked at.

use std::collections::BTreeMap;

use super::setting;
use crate::data::Images;
use crate::device::cuda::column_major::problem;
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::gpu::{Address, Argument, Element, Gpu, GpuError, Graph, Matrix, Node, Properties, Source};
use crate::executor::cpu::tests::build::resnet18;
use crate::executor::cuda::CudaExecutor;
use crate::executor::{Executor, Feed, Resident, Setting};
use crate::experiment::recipe::{Augmentation, BatchNormScope, Numerics, Stem};
use crate::views::Pipeline;

/// As much memory as a test asks for, all of it zeros.
#[derive(Default)]
struct Paper {
    allocations: BTreeMap<u64, u64>,
    n_launches: usize,
}

impl Paper {
    fn check(&self, address: Address, bytes: usize) -> Result<(), GpuError> {
        let holder = self.allocations.range(..=address.0).next_back();
        let inside = holder.is_some_and(|(start, len)| address.0 + bytes as u64 <= start + len);
        let reason = format!("{bytes} bytes at {address:?} are not allocated");
        if inside { Ok(()) } else { Err(GpuError::Call { call: "access", reason }) }
    }

    fn matrix(&self, matrix: Matrix, rows: usize, columns: usize) -> Result<(), GpuError> {
        self.check(matrix.address, ((rows - 1) * matrix.stride + columns) * matrix.element.bytes())
    }

    fn node(&mut self, node: &Node) -> Result<(), GpuError> {
        match node {
            Node::Launch(launch) => {
                self.n_launches += 1;
                if let Some(reason) = launch.refusal() {
                    return Err(GpuError::Call { call: "launch", reason });
                }
                for argument in &launch.arguments {
                    if let Argument::Address(address) = argument
                        && *address != Address::NONE
                    {
                        self.check(*address, 1)?;
                    }
                }
                Ok(())
            }
            Node::Product(product) => {
                problem(product)?;
                let sized =
                    |transposed: bool, rows, columns| if transposed { (columns, rows) } else { (rows, columns) };
                let (a, b) = (
                    sized(product.a_transposed, product.m, product.k),
                    sized(product.b_transposed, product.k, product.n),
                );
                self.matrix(product.a, a.0, a.1)?;
                self.matrix(product.b, b.0, b.1)?;
                self.matrix(product.c, product.m, product.n)
            }
            Node::Convolution(call) => {
                let (shape, bytes) = (&call.shape, call.shape.element.bytes());
                let outputs = shape.images * shape.out_height() * shape.out_width() * shape.outputs;
                self.check(call.x, shape.images * shape.height * shape.width * shape.inputs * bytes)?;
                self.check(call.weight, shape.outputs * shape.kernel * shape.kernel * shape.inputs * bytes)?;
                self.check(call.y, outputs * bytes)
            }
            Node::Zero { address, bytes } => self.check(*address, *bytes),
            Node::Copy { from, to, bytes } => self.check(*from, *bytes).and_then(|()| self.check(*to, *bytes)),
            Node::Side(nodes) => self.run(nodes),
            Node::Join => Ok(()),
        }
    }
}

impl Gpu for Paper {
    fn properties(&self) -> Properties {
        let bytes = 1 << 50;
        let (name, architecture) = ("paper".to_owned(), "paper".to_owned());
        Properties { name, architecture, memory_bytes: bytes, free_bytes: bytes, versions: Vec::new() }
    }

    fn load(&mut self, _sources: &[Source], _element: Element) -> Result<(), GpuError> {
        Ok(())
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError> {
        let end = self.allocations.last_key_value().map_or(1 << 20, |(start, len)| start + len);
        // A page between two, so that nothing strays from one into the other unseen.
        let start = (end + 4096).next_multiple_of(256);
        self.allocations.insert(start, bytes as u64);
        Ok(Address(start))
    }

    fn release(&mut self, address: Address) -> Result<(), GpuError> {
        self.allocations.remove(&address.0);
        Ok(())
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        self.check(to, bytes.len())
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        bytes.fill(0);
        self.check(from, bytes.len())
    }

    fn lock_plans(&mut self, _lock: &PlanLock) {}

    fn prepare(&mut self, _nodes: &[Node]) -> Result<(), GpuError> {
        Ok(())
    }

    fn run(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        nodes.iter().try_for_each(|node| self.node(node))
    }

    fn record(&mut self, nodes: &[Node]) -> Result<Graph, GpuError> {
        self.run(nodes).map(|()| Graph(0))
    }

    fn replay(&mut self, _graph: Graph) -> Result<(), GpuError> {
        Ok(())
    }

    fn synchronize(&mut self) -> Result<(), GpuError> {
        Ok(())
    }

    fn choices(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

fn images(batch: usize) -> Images {
    let mut images = Images::default();
    (0..batch).for_each(|_| images.push(4, 4, &[0; 48]));
    images
}

/// A step of each, with its views, measured and not, and an evaluation.
#[test]
fn large_trainings_stay_within_a_devices_limits() {
    let sizes = [
        (Stem::Cifar, Numerics::F32, 4096, None, 128),
        (Stem::ImageNet, Numerics::Bf16, 4096, None, 2048),
        // 65,536 views.
        (Stem::ImageNet, Numerics::Bf16, 32_768, None, 2048),
        (Stem::Cifar, Numerics::Bf16, 32_768, Some(2048), 128),
    ];
    for (stem, numerics, batch, micro_batch, width) in sizes {
        let plan = resnet18(stem, 32, 64, 512, width);
        let batch_norm_scope = BatchNormScope::View;
        let setting = Setting { micro_batch, batch_norm_scope, ..setting(batch, numerics) };
        let mut executor = CudaExecutor::new(Box::new(Paper::default()), plan, &setting).expect("legal nodes");
        let images = images(batch);
        let augmentations = [Augmentation::HorizontalFlip { p: 0.5 }];
        let pipeline = Pipeline::new(&augmentations, 32, 0);
        let feed =
            Feed { images: &images, labels: &[], pipeline: &pipeline, steps_per_epoch: 1, learning_rates: &[0.1] };
        executor.attach(&feed).expect("legal nodes");
        let order: Vec<u32> = (0..batch as u32).collect();
        let done = executor.steps(0, &order, 1, true).expect("a step");
        assert_eq!(done.losses, [0.0]);
        let some = Images::default();
        assert_eq!(executor.features_of(&some, &pipeline, &mut || true), Ok(Some(Vec::new())));
        assert_eq!(executor.save().step, 1);
    }
}
