use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{
    Address, Argument, Element, Gpu, GpuError, Launch, Node, Source, bf16_from_f32, f32_from_bf16, loaded,
};

/// Reverses each block's 64 numbers through shared memory, with the barrier that this needs or without.
const REVERSE: &str = r#"
extern "C" __global__ void reverse(float* out, const float* in, int n) {
  __shared__ float held[64];
  int i = blockIdx.x * 64 + threadIdx.x;
  if (i < n) held[threadIdx.x] = in[i];
  BARRIER
  int from = 63 - threadIdx.x;
  if (i < n) out[i] = held[from];
}
KERNEL_EXPORT(reverse)
"#;

/// Adds the block before: right only while blocks run in order.
const LEANING: &str = r#"
extern "C" __global__ void leaning(float* out) {
  out[blockIdx.x] = 1.0f + (blockIdx.x ? out[blockIdx.x - 1] : 0.0f);
}
KERNEL_EXPORT(leaning)
extern "C" __global__ void straying(float* out, int n) { out[n] = 1.0f; }
KERNEL_EXPORT(straying)
extern "C" __global__ void words(u32* out, u64 a, double b, float c, int d) {
  SHARED_ARRAY(u32, held);
  held[threadIdx.x] = threadIdx.x;
  __syncthreads();
  float sum = warp_sum((float)held[31 - threadIdx.x]);
  if (threadIdx.x == 0) {
    uint4 zero = {0, 0, 0, 0}; uint2 key = {0, 0};
    uint4 p = philox(zero, key);
    out[0] = p.x; out[1] = p.w; out[2] = (u32)(a >> 32); out[3] = (u32)(b * 4.0 + c + d); out[4] = (u32)sum;
    out[5] = __float_as_uint(exponential(-1.25f));
  }
}
KERNEL_EXPORT(words)
"#;

fn source(name: &'static str, text: String) -> Source {
    Source { name, text: text.leak() }
}

fn reversed(barrier: &str, order: Order) -> Vec<f32> {
    let source = source("reverse", REVERSE.replace("BARRIER", barrier));
    let mut emulator = Emulator::with(order, &[source], Element::F32);
    let input: Vec<f32> = (0..128).map(|i| i as f32).collect();
    let (out, input) = (emulator.place_f32(&[0.0; 128]), emulator.place_f32(&input));
    let arguments = vec![Argument::Address(out), Argument::Address(input), Argument::I32(128)];
    let launch = Launch { kernel: "reverse", grid: [2, 1, 1], block: [64, 1, 1], shared_bytes: 0, arguments };
    emulator.run(&[Node::Launch(launch)]).expect("a kernel");
    emulator.read_f32(out, 128)
}

#[test]
fn a_missing_barrier_shows_in_every_order() {
    let expected: Vec<f32> = (0..128).map(|i| (i / 64 * 64 + 63 - i % 64) as f32).collect();
    for order in Order::SEVERAL {
        assert_eq!(reversed("__syncthreads();", order), expected, "{order:?}");
        let wrong = reversed("", order);
        assert!(wrong != expected && wrong.iter().any(|value| value.is_nan()), "{order:?}");
    }
}

fn launch(emulator: &mut Emulator, kernel: &'static str, grid: u32, arguments: Vec<Argument>) -> Result<(), GpuError> {
    let launch = Launch { kernel, grid: [grid, 1, 1], block: [32, 1, 1], shared_bytes: 128, arguments };
    emulator.run(&[Node::Launch(launch)])?;
    emulator.synchronize()
}

#[test]
fn blocks_that_lean_on_each_other_show_in_another_order() {
    let run = |order| {
        let mut emulator = Emulator::with(order, &[source("misc", LEANING.to_owned())], Element::F32);
        let out = emulator.place_f32(&[0.0; 8]);
        let arguments = vec![Argument::Address(out)];
        let one = Launch { kernel: "leaning", grid: [8, 1, 1], block: [1, 1, 1], shared_bytes: 0, arguments };
        emulator.run(&[Node::Launch(one)]).expect("a kernel");
        emulator.read_f32(out, 8)
    };
    assert_eq!(run(Order::FORWARD)[7], 8.0);
    assert_eq!(run(Order { threads: 0, blocks: 1 })[7], 1.0);
}

#[test]
fn arguments_arrive_and_the_prelude_agrees_with_the_processor() {
    let mut emulator = Emulator::with(Order::FORWARD, &[source("misc", LEANING.to_owned())], Element::Bf16);
    let out = emulator.place(&[0; 24]);
    let arguments = vec![
        Argument::Address(out),
        Argument::U64(7 << 32),
        Argument::F64(2.25),
        Argument::F32(3.0),
        Argument::I32(-1),
    ];
    launch(&mut emulator, "words", 1, arguments).expect("a kernel");
    let words: Vec<u32> = emulator.read_f32(out, 6).iter().map(|value| value.to_bits()).collect();
    assert_eq!(words[..5], [0x6627_e8d5, 0x9b00_dbd8, 7, 11, 496]);
    assert_eq!(f32::from_bits(words[5]), crate::ops::nt_xent::exponential(-1.25));
}

#[test]
fn a_write_outside_is_found() {
    let mut emulator = Emulator::with(Order::FORWARD, &[source("misc", LEANING.to_owned())], Element::F32);
    let out = emulator.place_f32(&[0.0; 4]);
    launch(&mut emulator, "straying", 1, vec![Argument::Address(out), Argument::I32(3)]).expect("inside");
    let error = launch(&mut emulator, "straying", 1, vec![Argument::Address(out), Argument::I32(4)]);
    assert!(error.is_err_and(|error| error.to_string().contains("wrote outside")));
}

#[test]
fn too_little_memory_and_unknown_kernels_are_errors() {
    let mut emulator = Emulator::with_memory(1000);
    assert_eq!(emulator.allocate(2000), Err(GpuError::OutOfMemory { needed_bytes: 2000, free_bytes: 1000 }));
    assert!(emulator.download(Address(16), &mut [0]).is_err());
    assert!(launch(&mut emulator, "nothing", 1, vec![]).is_err());
}

#[test]
fn bf16_is_the_nearest() {
    for (value, expected) in
        [(1.0, 1.0), (1.003_906_2, 1.0), (1.003_907, 1.007_812_5), (1.011_718_8, 1.015_625), (-0.0, -0.0)]
    {
        assert_eq!(f32_from_bf16(bf16_from_f32(value)), expected, "{value}");
    }
    assert!(f32_from_bf16(bf16_from_f32(f32::NAN)).is_nan());
    assert_eq!(f32_from_bf16(bf16_from_f32(f32::MAX)), f32::INFINITY);
    let every: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let again = crate::device::gpu::stored(&loaded(&every, Element::Bf16), Element::Bf16);
    let same = every.as_chunks::<2>().0.iter().zip(again.as_chunks::<2>().0);
    assert!(same.into_iter().all(|(a, b)| a == b || f32_from_bf16(u16::from_le_bytes(*a)).is_nan()));
}
