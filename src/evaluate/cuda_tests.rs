//! Evaluations on an emulated device against the processor's, through the one door both have.

use super::cuda::nearest::NEIGHBOURS_MAX;
use super::cuda::{DeviceEvaluations, LoadedKernels};
use super::tests::{clusters, knn, probe};
use super::{EvaluateError, Features, evaluate, nearest_neighbours};
use crate::device::Pool;
use crate::device::cuda::plan_lock::PlanLock;
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Address, Element, Gpu, GpuError, Graph, Node, Properties, Source};
use crate::experiment::recipe::{Classification, Knn, LinearProbe, Metric};

/// The emulation, counting what is run, and refusing kernels that it has, as a real device does.
struct Strict {
    emulator: Emulator,
    sources: Vec<&'static str>,
    n_runs: usize,
}

impl Strict {
    fn new(emulator: Emulator) -> Strict {
        Strict { emulator, sources: Vec::new(), n_runs: 0 }
    }
}

impl Gpu for Strict {
    fn lock_plans(&mut self, lock: &PlanLock) {
        self.emulator.lock_plans(lock);
    }

    fn properties(&self) -> Properties {
        self.emulator.properties()
    }

    fn load(&mut self, sources: &[Source], element: Element) -> Result<(), GpuError> {
        for source in sources {
            if self.sources.contains(&source.name) {
                return Err(GpuError::Call { call: "load", reason: format!("`{}` is there", source.name) });
            }
            self.sources.push(source.name);
        }
        self.emulator.load(sources, element)
    }

    fn allocate(&mut self, bytes: usize) -> Result<Address, GpuError> {
        self.emulator.allocate(bytes)
    }

    fn release(&mut self, address: Address) -> Result<(), GpuError> {
        self.emulator.release(address)
    }

    fn upload(&mut self, to: Address, bytes: &[u8]) -> Result<(), GpuError> {
        self.emulator.upload(to, bytes)
    }

    fn download(&mut self, from: Address, bytes: &mut [u8]) -> Result<(), GpuError> {
        self.emulator.download(from, bytes)
    }

    fn prepare(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        self.emulator.prepare(nodes)
    }

    fn run(&mut self, nodes: &[Node]) -> Result<(), GpuError> {
        self.n_runs += 1;
        self.emulator.run(nodes)
    }

    fn record(&mut self, nodes: &[Node]) -> Result<Graph, GpuError> {
        self.emulator.record(nodes)
    }

    fn replay(&mut self, graph: Graph) -> Result<(), GpuError> {
        self.emulator.replay(graph)
    }

    fn synchronize(&mut self) -> Result<(), GpuError> {
        self.emulator.synchronize()
    }

    fn choices(&self) -> Vec<(String, String)> {
        self.emulator.choices()
    }
}

fn short_probe() -> Classification {
    Classification::LinearProbe(LinearProbe { epochs: 2, batch: 32, ..probe() })
}

fn every_evaluation() -> [Classification; 3] {
    [knn(Metric::Cosine), knn(Metric::Euclidean), short_probe()]
}

/// Noisy enough that some queries are told wrong.
fn features() -> (Features, Features) {
    (clusters(1, 90, 10, 6, 2.0), clusters(2, 20, 10, 6, 2.0))
}

#[test]
fn outcomes_are_the_processors_and_kernels_are_loaded_once() {
    let ((bank, queries), pool) = (features(), Pool::new(1));
    let (mut gpu, mut loaded) = (Strict::new(Emulator::strict(Order::FORWARD)), LoadedKernels::default());
    for evaluation in every_evaluation().iter().chain(&every_evaluation()) {
        let wanted = evaluate(evaluation, &bank, &queries, 6, &pool, None).expect("an outcome");
        assert!(wanted.top1 > 0.2 && wanted.top1 < 1.0, "{evaluation:?}: {wanted:?}");
        let n_runs = gpu.n_runs;
        let device = DeviceEvaluations { gpu: &mut gpu, loaded: &mut loaded };
        let found = evaluate(evaluation, &bank, &queries, 6, &pool, Some(device));
        assert_eq!(found, Ok(wanted), "{evaluation:?}");
        assert!(gpu.n_runs > n_runs, "{evaluation:?} ran on the device");
    }
    assert_eq!(gpu.sources, ["nearest", "linear_probe"]);
    let properties = gpu.properties();
    assert_eq!(properties.free_bytes, properties.memory_bytes, "everything is released");
}

/// All that is ranked, for every cut of k; images that are equally near in both ways of summing.
#[test]
fn neighbours_vote_as_on_the_processor() {
    let ((bank, queries), pool) = (features(), Pool::new(2));
    let rounded = |features: &Features| Features {
        values: features.values.iter().map(|value| value.round()).collect(),
        ..features.clone()
    };
    for (bank, queries) in [(rounded(&bank), rounded(&queries)), (bank, queries)] {
        let mut gpu = Emulator::with(Order::FORWARD, &[super::cuda::nearest::SOURCE], Element::F32);
        for metric in [Metric::Cosine, Metric::Euclidean] {
            // Sums of whole numbers are exact; those of unit vectors are not, and ties among them fall either way.
            if metric == Metric::Cosine && bank.values.iter().all(|value| value.fract() == 0.0) {
                continue;
            }
            for k in [0, 1, 7, 90, 5000] {
                let knn = Knn { k, temperature: 0.1, metric, ..Knn::DEFAULT };
                let wanted = nearest_neighbours::classify(&bank, &queries, 6, &knn, &pool);
                let found = nearest_neighbours::classify_on_device(&mut gpu, &bank, &queries, 6, &knn, &pool);
                assert_eq!(found, Ok(wanted), "{knn:?}");
            }
        }
    }
}

#[test]
fn more_neighbours_than_a_device_keeps_are_found_by_the_processor() {
    let (bank, queries) = (clusters(1, NEIGHBOURS_MAX + 1, 2, 3, 2.0), clusters(2, 4, 2, 3, 2.0));
    let (mut gpu, mut loaded) = (Strict::new(Emulator::strict(Order::FORWARD)), LoadedKernels::default());
    let mut outcomes = |k: usize| {
        let evaluation =
            Classification::Knn(Knn { k: k as u32, temperature: 0.1, metric: Metric::Cosine, ..Knn::DEFAULT });
        let device = DeviceEvaluations { gpu: &mut gpu, loaded: &mut loaded };
        let found = evaluate(&evaluation, &bank, &queries, 3, &Pool::new(1), Some(device));
        let wanted = evaluate(&evaluation, &bank, &queries, 3, &Pool::new(1), None);
        assert!(wanted.is_ok());
        assert_eq!(found, wanted, "k {k}");
        gpu.n_runs
    };
    assert_eq!(outcomes(NEIGHBOURS_MAX + 1), 0);
    assert_eq!(outcomes(NEIGHBOURS_MAX), 1);
}

#[test]
fn too_little_memory_is_told_and_nothing_is_kept() {
    let (bank, queries) = features();
    for evaluation in every_evaluation() {
        let (mut gpu, mut loaded) = (Emulator::with_memory(3_000), LoadedKernels::default());
        let device = DeviceEvaluations { gpu: &mut gpu, loaded: &mut loaded };
        let found = evaluate(&evaluation, &bank, &queries, 6, &Pool::new(1), Some(device));
        assert!(matches!(found, Err(EvaluateError::Gpu(GpuError::OutOfMemory { .. }))), "{evaluation:?}: {found:?}");
        assert_eq!(gpu.properties().free_bytes, 3_000);
    }
}
