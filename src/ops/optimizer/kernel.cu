// One update of all parameters. A block owns one chunk: at most 4096 numbers of one tensor. Thread t takes the quads
// t, t + 256, ... of its chunk, whether or not they lie on 16 bytes, so that where a tensor lies never changes a bit.
// The arithmetic of every number is that of the processor's optimizers, operation by operation.

enum { OPTIMIZER_THREADS = 256, OPTIMIZER_QUADS = 4 };  // a block; a thread

// The table: a word of four for each chunk, then one for each tensor.
// chunk: low and high half of its start, its length, 2 * tensor + whether weight decay touches it
// tensor: its first chunk, its number of chunks, whether weight decay touches it, 0
struct OptimizerChunk {
  u64 start;
  int len;
  u32 tensor;
  bool decays;
  bool aligned;
};
__device__ __forceinline__ OptimizerChunk optimizer_chunk(const uint4* table) {
  uint4 words = table[blockIdx.x];
  OptimizerChunk chunk;
  chunk.start = (u64)words.y << 32 | words.x;
  chunk.len = (int)words.z;
  chunk.tensor = words.w >> 1;
  chunk.decays = (words.w & 1u) != 0;
  chunk.aligned = (words.x & 3u) == 0;
  return chunk;
}

// Four numbers, of which the first n are there; the others are 0.
__device__ __forceinline__ void optimizer_load(const float* from, int n, bool aligned, float* to) {
  if (aligned && n >= 4) {
    float4 v = *(const float4*)from;
    to[0] = v.x; to[1] = v.y; to[2] = v.z; to[3] = v.w;
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) to[j] = j < n ? from[j] : 0.0f;
  }
}
__device__ __forceinline__ void optimizer_store(float* to, int n, bool aligned, const float* from) {
  if (aligned && n >= 4) {
    float4 v = {from[0], from[1], from[2], from[3]};
    *(float4*)to = v;
  } else {
#pragma unroll
    for (int j = 0; j < 4; ++j) if (j < n) to[j] = from[j];
  }
}
__device__ __forceinline__ void optimizer_store_copy(store_t* to, int n, bool aligned, const float* from) {
#ifdef STORAGE_BF16
  if (aligned && n >= 4) {
    uint2 v = {(u32)bf16_of_f32(from[0]) | (u32)bf16_of_f32(from[1]) << 16,
               (u32)bf16_of_f32(from[2]) | (u32)bf16_of_f32(from[3]) << 16};
    *(uint2*)to = v;
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; ++j) if (j < n) to[j] = stored(from[j]);
#else
  optimizer_store(to, n, aligned, from);
#endif
}

// Sums over a block's 256 threads, N of them at a time: a warp takes each, a lane every 32nd number, then the lanes by
// halves. `out` gets them, or their roots.
template <int N>
__device__ __forceinline__ void optimizer_block_sums(const double* values, double* held, double* out, bool rooted) {
#pragma unroll
  for (int k = 0; k < N; ++k) held[k * OPTIMIZER_THREADS + (int)threadIdx.x] = values[k];
  __syncthreads();
  int k = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
  if (k >= N) return;
  double sum = 0.0;
  for (int i = lane; i < OPTIMIZER_THREADS; i += 32) sum += held[k * OPTIMIZER_THREADS + i];
  sum = warp_sum_f64(sum);
  if (lane == 0) out[k] = rooted ? sqrt(sum) : sum;
}

// Sums of squares to twice the precision of float by float alone (Dekker 1971), as double is slow where graphics come
// first: the part that rounding takes from a square or a sum is added up beside it.
struct OptimizerSquares { float high, low; };
// The square of x + rest, where `rest` is what rounding took from x.
__device__ __forceinline__ void optimizer_add_square(OptimizerSquares& sum, float x, float rest) {
  float square = x * x, lost = fmaf(2.0f * x, rest, fmaf(x, x, -square));
  float next = sum.high + square, part = next - sum.high;
  lost += (sum.high - (next - part)) + (square - part);
  sum.high = next;
  sum.low += lost;
}
// The sum of squares of a thread's numbers; scaled by a power of two meanwhile, so that none overflows or vanishes.
__device__ __forceinline__ double optimizer_sum_of_squares(const float* values, const float* rests) {
  u32 highest = 0;
#pragma unroll
  for (int i = 0; i < 4 * OPTIMIZER_QUADS; ++i) {
    u32 magnitude = __float_as_uint(values[i]) & 0x7fffffffu;
    highest = magnitude > highest ? magnitude : highest;
  }
  u32 exponent = highest >> 23;
  exponent = exponent < 1 ? 1 : exponent > 253 ? 253 : exponent;
  float scale = __uint_as_float((254u - exponent) << 23);
  OptimizerSquares sum = {0.0f, 0.0f};
#pragma unroll
  for (int i = 0; i < 4 * OPTIMIZER_QUADS; ++i) optimizer_add_square(sum, values[i] * scale, rests[i] * scale);
  double unit = (double)__uint_as_float(exponent << 23);
  double low = sum.low == sum.low ? (double)sum.low : 0.0;  // next to an infinite sum it is no number
  return ((double)sum.high + low) * unit * unit;
}

// LARS, first: |w|^2 and |g + decay w|^2 of every chunk that is adapted, else 0.
extern "C" __global__ void __launch_bounds__(256)
optimizer_lars_squares(const float* __restrict__ parameters, const float* __restrict__ gradients,
                       const uint4* __restrict__ table, double decay, double* __restrict__ partials) {
  __shared__ double held[2 * OPTIMIZER_THREADS];
  OptimizerChunk chunk = optimizer_chunk(table);
  double* out = partials + 2 * (u64)blockIdx.x;
  if (!chunk.decays) {
    if (threadIdx.x == 0) out[0] = out[1] = 0.0;
    return;
  }
  float decay_high = (float)decay, decay_low = (float)(decay - (double)decay_high);
  float w[4 * OPTIMIZER_QUADS], g[4 * OPTIMIZER_QUADS], rests[4 * OPTIMIZER_QUADS];
#pragma unroll
  for (int k = 0; k < OPTIMIZER_QUADS; ++k) {
    int i = 4 * ((int)threadIdx.x + k * OPTIMIZER_THREADS);
    u64 at = chunk.start + (u64)i;
    optimizer_load(parameters + at, chunk.len - i, chunk.aligned, w + 4 * k);
    optimizer_load(gradients + at, chunk.len - i, chunk.aligned, g + 4 * k);
  }
#pragma unroll
  for (int i = 0; i < 4 * OPTIMIZER_QUADS; ++i) rests[i] = 0.0f;
  double sums[2];
  sums[0] = optimizer_sum_of_squares(w, rests);
#pragma unroll
  for (int i = 0; i < 4 * OPTIMIZER_QUADS; ++i) {
    float decayed = decay_high * w[i], next = g[i] + decayed, part = next - g[i];
    float lost = (g[i] - (next - part)) + (decayed - part);
    rests[i] = lost + fmaf(decay_low, w[i], fmaf(decay_high, w[i], -decayed));
    g[i] = next;
  }
  sums[1] = optimizer_sum_of_squares(g, rests);
  optimizer_block_sums<2>(sums, held, out, false);
}

// LARS, second: a warp a tensor makes of its sums the rate inside the momentum buffer and the decay.
// of_decayed_gradient: Google's and Popular's ratio; clipped: the ratio over the learning rate is at most 1;
// rate_inside: the learning rate goes into the buffer.
extern "C" __global__ void __launch_bounds__(32)
optimizer_lars_ratios(const uint4* __restrict__ tensors, const double* __restrict__ partials,
                      const double* __restrict__ rates, const u64* __restrict__ step, double decay, double trust,
                      int of_decayed_gradient, int clipped, int rate_inside, float2* __restrict__ rules) {
  uint4 tensor = tensors[blockIdx.x];
  double parameters = 0.0, gradients = 0.0;
  for (u32 chunk = threadIdx.x; chunk < tensor.y; chunk += 32) {
    const double* partial = partials + 2 * ((u64)tensor.x + chunk);
    parameters += partial[0];
    gradients += partial[1];
  }
  parameters = warp_sum_f64(parameters);
  gradients = warp_sum_f64(gradients);
  if (threadIdx.x != 0) return;
  double weight_norm = sqrt(parameters), gradient_norm = sqrt(gradients), rate = rates[*step];
  bool has_ratio = weight_norm > 0.0 && gradient_norm > 0.0;
  double ratio = 1.0, kept_decay = decay;
  if (tensor.z && of_decayed_gradient) {
    if (has_ratio) ratio = trust * weight_norm / gradient_norm;
  } else if (tensor.z && has_ratio) {
    ratio = trust * weight_norm / (gradient_norm + decay * weight_norm + 1e-8);
    if (clipped) {
      ratio = ratio / rate;
      ratio = ratio < 1.0 ? ratio : 1.0;
    }
  } else {
    kept_decay = 0.0;
  }
  float2 rule = {(float)(rate_inside ? ratio * rate : ratio), (float)kept_decay};
  rules[blockIdx.x] = rule;
}

// What a step is measured by: |g|^2, |w|^2 after it and |change of w|^2, of the first n of four numbers.
__device__ __forceinline__ void optimizer_measure(double* sums, int n, const float* g, const float* before, const float* w) {
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (j < n) {
      double gradient = g[j], after = w[j], change = w[j] - before[j];
      sums[0] += gradient * gradient;
      sums[1] += after * after;
      sums[2] += change * change;
    }
  }
}

// SGD, and LARS's third. rules: a tensor's rate inside the buffer and decay, or none: 1 and `decay` where it applies.
// buffer: momentum, or none. copies: what products read, or none. partials: the step's measurements, or none.
extern "C" __global__ void __launch_bounds__(256)
optimizer_descend(float* parameters, const float* __restrict__ gradients, float* buffer, store_t* copies,
                  const uint4* __restrict__ table, const float2* __restrict__ rules, const double* __restrict__ rates,
                  const u64* __restrict__ step, float decay, float momentum, int nesterov, int rate_inside,
                  double* partials) {
  __shared__ double held[3 * OPTIMIZER_THREADS];
  OptimizerChunk chunk = optimizer_chunk(table);
  float2 rule = {1.0f, chunk.decays ? decay : 0.0f};
  if (rules) rule = rules[chunk.tensor];
  float rate = rate_inside ? 1.0f : (float)rates[*step];
  double sums[3] = {0.0, 0.0, 0.0};
#pragma unroll
  for (int k = 0; k < OPTIMIZER_QUADS; ++k) {
    int i = 4 * ((int)threadIdx.x + k * OPTIMIZER_THREADS), n = chunk.len - i;
    if (n <= 0) break;
    u64 at = chunk.start + (u64)i;
    float w[4], g[4], b[4], before[4];
    optimizer_load(parameters + at, n, chunk.aligned, w);
    optimizer_load(gradients + at, n, chunk.aligned, g);
    if (buffer) optimizer_load(buffer + at, n, chunk.aligned, b);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      before[j] = w[j];
      float direction = rule.x * (g[j] + rule.y * w[j]);
      if (buffer) {
        b[j] = momentum * b[j] + direction;
        direction = nesterov ? direction + momentum * b[j] : b[j];
      }
      w[j] -= rate * direction;
    }
    optimizer_store(parameters + at, n, chunk.aligned, w);
    if (buffer) optimizer_store(buffer + at, n, chunk.aligned, b);
    if (copies) optimizer_store_copy(copies + at, n, chunk.aligned, w);
    if (partials) optimizer_measure(sums, n, g, before, w);
  }
  if (partials) optimizer_block_sums<3>(sums, held, partials + 3 * (u64)blockIdx.x, false);
}

// Adam. rates: of every step the learning rate over 1 - beta1^t, and 1/sqrt(1 - beta2^t).
extern "C" __global__ void __launch_bounds__(256)
optimizer_adapt(float* parameters, const float* __restrict__ gradients, float* first, float* second, store_t* copies,
                const uint4* __restrict__ table, const float2* __restrict__ rates, const u64* __restrict__ step,
                float decay, float first_share, float beta2, float second_share, float epsilon, double* partials) {
  __shared__ double held[3 * OPTIMIZER_THREADS];
  OptimizerChunk chunk = optimizer_chunk(table);
  float kept_decay = chunk.decays ? decay : 0.0f;
  float2 rate = rates[*step];
  double sums[3] = {0.0, 0.0, 0.0};
#pragma unroll
  for (int k = 0; k < OPTIMIZER_QUADS; ++k) {
    int i = 4 * ((int)threadIdx.x + k * OPTIMIZER_THREADS), n = chunk.len - i;
    if (n <= 0) break;
    u64 at = chunk.start + (u64)i;
    float w[4], g[4], m[4], v[4], before[4];
    optimizer_load(parameters + at, n, chunk.aligned, w);
    optimizer_load(gradients + at, n, chunk.aligned, g);
    optimizer_load(first + at, n, chunk.aligned, m);
    optimizer_load(second + at, n, chunk.aligned, v);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      before[j] = w[j];
      float gradient = g[j] + kept_decay * w[j];
      m[j] += first_share * (gradient - m[j]);
      v[j] = beta2 * v[j] + second_share * gradient * gradient;
      w[j] -= rate.x * m[j] / (sqrtf(v[j]) * rate.y + epsilon);
    }
    optimizer_store(parameters + at, n, chunk.aligned, w);
    optimizer_store(first + at, n, chunk.aligned, m);
    optimizer_store(second + at, n, chunk.aligned, v);
    if (copies) optimizer_store_copy(copies + at, n, chunk.aligned, w);
    if (partials) optimizer_measure(sums, n, g, before, w);
  }
  if (partials) optimizer_block_sums<3>(sums, held, partials + 3 * (u64)blockIdx.x, false);
}

// The three norms of a measured step, from the partial sums of its chunks.
extern "C" __global__ void __launch_bounds__(256)
optimizer_norms(const double* __restrict__ partials, int n_chunks, double* __restrict__ norms) {
  __shared__ double held[3 * OPTIMIZER_THREADS];
  double sums[3] = {0.0, 0.0, 0.0};
  for (int chunk = (int)threadIdx.x; chunk < n_chunks; chunk += OPTIMIZER_THREADS) {
    for (int k = 0; k < 3; ++k) sums[k] += partials[3 * (u64)chunk + k];
  }
  optimizer_block_sums<3>(sums, held, norms, true);
}

// What products read, from the parameters as they are.
extern "C" __global__ void __launch_bounds__(256)
optimizer_copy(const float* __restrict__ parameters, store_t* __restrict__ copies, const uint4* __restrict__ table) {
  OptimizerChunk chunk = optimizer_chunk(table);
#pragma unroll
  for (int k = 0; k < OPTIMIZER_QUADS; ++k) {
    int i = 4 * ((int)threadIdx.x + k * OPTIMIZER_THREADS), n = chunk.len - i;
    if (n <= 0) break;
    float w[4];
    optimizer_load(parameters + chunk.start + (u64)i, n, chunk.aligned, w);
    optimizer_store_copy(copies + chunk.start + (u64)i, n, chunk.aligned, w);
  }
}

extern "C" __global__ void optimizer_advance(u64* step) {
  if (threadIdx.x == 0) *step += 1;
}

KERNEL_EXPORT(optimizer_lars_squares)
KERNEL_EXPORT(optimizer_lars_ratios)
KERNEL_EXPORT(optimizer_descend)
KERNEL_EXPORT(optimizer_adapt)
KERNEL_EXPORT(optimizer_norms)
KERNEL_EXPORT(optimizer_copy)
KERNEL_EXPORT(optimizer_advance)
