//! What a run is computed on: the processor's threads, its name and what it must be able to do;
//! in `gpu`, what a graphics processor is asked to do.

pub mod cuda;
#[cfg(test)]
pub mod emulator;
pub mod gpu;

/// A fixed number of worker threads. Work is cut into blocks by shape alone and partial results are combined in block
/// order, so the number of threads never changes a bit.
#[derive(Debug)]
pub struct Pool {
    inner: rayon::ThreadPool,
}

impl Pool {
    /// # Panics
    /// When the system cannot start a thread.
    pub fn new(threads: usize) -> Pool {
        let inner = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .thread_name(|index| format!("ablate-{index}"))
            .build()
            .expect("the system starts worker threads");
        Pool { inner }
    }

    pub fn threads(&self) -> usize {
        self.inner.current_num_threads()
    }

    /// Runs `work` inside the pool: rayon's parallel iterators in it use these threads and no others.
    pub fn install<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.inner.install(work)
    }
}

/// The instruction sets that `cpu` results rest on and this machine lacks. Without fused multiply-add in hardware, every one
/// of them would be a call: the same bits, some hundred times later.
pub fn missing_instructions() -> Option<&'static str> {
    #[cfg(target_arch = "x86_64")]
    if !(std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")) {
        return Some("AVX2 and FMA");
    }
    None
}

/// The instruction sets in use, for the record.
pub fn instruction_sets() -> String {
    #[cfg(target_arch = "x86_64")]
    {
        let found = [
            (std::arch::is_x86_feature_detected!("avx2"), "avx2"),
            (std::arch::is_x86_feature_detected!("fma"), "fma"),
            (std::arch::is_x86_feature_detected!("avx512f"), "avx512f"),
        ];
        found.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH.to_owned()
    }
}

/// The processor's name as the system gives it.
pub fn processor_name() -> String {
    let from_linux = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name.to_owned()))
    });
    from_linux.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// What Linux says of this process by that name (proc(5), `/proc/self/status`); none on other systems.
pub fn process_status(name: &str) -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// As [`process_status`], of an amount of memory.
pub fn process_bytes(name: &str) -> Option<u64> {
    let kib: u64 = process_status(name)?.strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}
