// Adds the gradient that an engine left in scratch to what is there: engines only write.

// n groups of eight numbers, both places at multiples of 16 bytes.
extern "C" __global__ void __launch_bounds__(256) conv2d_add(store_t* to, const store_t* from, u64 n) {
  u64 group = (u64)blockIdx.x * 256 + threadIdx.x;
  if (group >= n) return;
  float sum[8], value[8];
  load8(to + group * 8, sum);
  load8(from + group * 8, value);
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] += value[i];
  store8(to + group * 8, sum);
}
KERNEL_EXPORT(conv2d_add)
