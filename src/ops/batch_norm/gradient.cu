// The backward passes of batch norm; continues kernel.cu.

// How dz follows from dy; `side` is y, the residual or nothing.
#define DERIVATIVE_IDENTITY 0
#define DERIVATIVE_RELU_OF_INPUT 1
#define DERIVATIVE_RELU_OF_OUTPUT 2
#define DERIVATIVE_SILU 3
template <int DERIVATIVE>
__device__ __forceinline__ float slope(float dy, float x, float side, float mean, float gain, float shift) {
  if (DERIVATIVE == DERIVATIVE_RELU_OF_INPUT) return normalized(x, mean, gain, shift) <= 0.0f ? 0.0f : dy;
  if (DERIVATIVE == DERIVATIVE_RELU_OF_OUTPUT) return side > 0.0f ? dy : 0.0f;
  if (DERIVATIVE == DERIVATIVE_SILU) {
    float z = normalized(x, mean, gain, shift) + side, s = 1.0f / (1.0f + exponential(-z));
    return dy * (s * (1.0f + z * (1.0f - s)));
  }
  return dy;
}
// What a row of the backward passes reads, in flight.
struct Gradients {
  const store_t *x, *side, *dy;
  Octet inputs[NORM_ROWS_BESIDE], sides[NORM_ROWS_BESIDE], outputs[NORM_ROWS_BESIDE];
  __device__ __forceinline__ void fetch_rows(const Share& share, int row) {
#pragma unroll
    for (int u = 0; u < NORM_ROWS_BESIDE; ++u)
      if (row + u * NORM_LANES < share.n) {
        u64 at = share.at(row + u * NORM_LANES);
        inputs[u] = fetch(x + at, share);
        outputs[u] = fetch(dy + at, share);
        if (side) sides[u] = fetch(side + at, share);
      }
  }
  __device__ __forceinline__ void spread_row(int u, float* input, float* beside, float* output) const {
    spread(inputs[u], input);
    spread(outputs[u], output);
#pragma unroll
    for (int i = 0; i < 8; ++i) beside[i] = 0.0f;
    if (side) spread(sides[u], beside);
  }
};

#define DELIVER_WRITE 1
#define DELIVER_ADD 2
// Sums of dz and dz * (x - mean), and dz itself where it is to be delivered.
template <int DERIVATIVE>
__device__ __forceinline__ void sum_rows(const Share& share, Gradients from, store_t* dz, int delivery, const float* m,
                                         const float* g, const float* s, float* sum, float* product) {
  for (int row = share.lane; row < share.n; row += NORM_LANES * NORM_ROWS_BESIDE) {
    from.fetch_rows(share, row);
#pragma unroll
    for (int u = 0; u < NORM_ROWS_BESIDE; ++u)
      if (row + u * NORM_LANES < share.n) {
        u64 at = share.at(row + u * NORM_LANES);
        float x[8], side[8], d[8];
        from.spread_row(u, x, side, d);
#pragma unroll
        for (int i = 0; i < 8; ++i) d[i] = slope<DERIVATIVE>(d[i], x[i], side[i], m[i], g[i], s[i]);
        if (delivery == DELIVER_WRITE) {
          // The second pass reads what is stored here: the sums are of the same numbers.
#pragma unroll
          for (int i = 0; i < 8; ++i) d[i] = load(stored(d[i]));
          put(dz + at, d, share);
        } else if (delivery == DELIVER_ADD) {
          float total[8];
          spread(fetch(dz + at, share), total);
#pragma unroll
          for (int i = 0; i < 8; ++i) total[i] += d[i];
          put(dz + at, total, share);
        }
#pragma unroll
        for (int i = 0; i < 8; ++i) { sum[i] += d[i]; product[i] = fmaf(d[i], x[i] - m[i], product[i]); }
      }
  }
}

// partials[group][part][channel] = (sum of dz, sum of dz * normalized x). Grid: tiles, parts, groups.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
batch_norm_gradient_sums(float2* partials, store_t* dz, const store_t* x, const store_t* side, const store_t* dy,
                         const float* scale, const float* shift, const float* saved_mean, const float* saved_inverse,
                         int rows, int channels, int rows_per_part, int derivative, int delivery, int vector) {
  __shared__ float2 lanes[NORM_LANES][NORM_TILE];
  __shared__ float2 held[NORM_THREADS];
  Share share = share_of(blockIdx.z, blockIdx.y, rows, rows_per_part, channels, vector);
  float m[8] = {}, g[8] = {}, s[8] = {}, inverse[8] = {}, sum[8] = {}, product[8] = {};
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < share.valid) {
      int channel = blockIdx.x * NORM_TILE + share.column + i;
      m[i] = saved_mean[blockIdx.z * channels + channel];
      inverse[i] = saved_inverse[blockIdx.z * channels + channel];
      g[i] = inverse[i] * scale[channel];
      s[i] = shift[channel];
    }
  Gradients from;
  from.x = x; from.side = side; from.dy = dy;
  if (derivative == DERIVATIVE_RELU_OF_INPUT)
    sum_rows<DERIVATIVE_RELU_OF_INPUT>(share, from, dz, delivery, m, g, s, sum, product);
  else if (derivative == DERIVATIVE_RELU_OF_OUTPUT)
    sum_rows<DERIVATIVE_RELU_OF_OUTPUT>(share, from, dz, delivery, m, g, s, sum, product);
  else if (derivative == DERIVATIVE_SILU)
    sum_rows<DERIVATIVE_SILU>(share, from, dz, delivery, m, g, s, sum, product);
  else
    sum_rows<DERIVATIVE_IDENTITY>(share, from, dz, delivery, m, g, s, sum, product);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float2 own = {sum[i], product[i] * inverse[i]};
    lanes[share.lane][share.column + i] = own;
  }
  __syncthreads();
  int at = threadIdx.x % NORM_TILE, slice = threadIdx.x / NORM_TILE, channel = blockIdx.x * NORM_TILE + at;
  float2 all = {0.0f, 0.0f};
  for (int lane = slice; lane < NORM_LANES; lane += NORM_SLICES) { all.x += lanes[lane][at].x; all.y += lanes[lane][at].y; }
  all = sums_over_slices(all, held, at, slice, NORM_SLICES, NORM_TILE);
  if (slice == 0 && channel < channels)
    partials[((u64)blockIdx.z * gridDim.y + blockIdx.y) * channels + channel] = all;
}

// Many parts to one, and the gradients of scale and shift over all groups. Grid: channels / 16.
extern "C" __global__ void __launch_bounds__(FOLD_CHANNELS * FOLD_SLICES)
batch_norm_fold_gradients(float2* folded, float* d_scale, float* d_shift, const float2* partials, int channels, int parts,
                          int groups) {
  __shared__ float2 held[FOLD_CHANNELS * FOLD_SLICES];
  int at = threadIdx.x % FOLD_CHANNELS, slice = threadIdx.x / FOLD_CHANNELS, channel = blockIdx.x * FOLD_CHANNELS + at;
  float2 total = {0.0f, 0.0f};
  for (int group = 0; group < groups; ++group) {
    const float2* own = partials + (u64)group * parts * channels;
    float2 all = sums_of_parts(own, parts, channels, channel, slice, FOLD_SLICES);
    all = sums_over_slices(all, held, at, slice, FOLD_SLICES, FOLD_CHANNELS);
    total.x += all.x;
    total.y += all.y;
    if (slice == 0 && channel < channels) folded[(u64)group * channels + channel] = all;
  }
  if (slice == 0 && channel < channels) { d_shift[channel] = total.x; d_scale[channel] = total.y; }
}

// dx = gain * dz + tilt * (x - mean) + level, the constants a channel's.
struct Constants { float mean[NORM_TILE], gain[NORM_TILE], shift[NORM_TILE], tilt[NORM_TILE], level[NORM_TILE]; };
template <int DERIVATIVE>
__device__ __forceinline__ void gradient_rows(const Share& share, Gradients from, store_t* dx, int adds,
                                              const Constants& constants) {
  float m[8], g[8], s[8], tilt[8], level[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    int at = share.column + i;
    m[i] = constants.mean[at]; g[i] = constants.gain[at]; s[i] = constants.shift[at];
    tilt[i] = constants.tilt[at]; level[i] = constants.level[at];
  }
  for (int row = share.lane; row < share.n; row += NORM_LANES * NORM_ROWS_BESIDE) {
    from.fetch_rows(share, row);
#pragma unroll
    for (int u = 0; u < NORM_ROWS_BESIDE; ++u)
      if (row + u * NORM_LANES < share.n) {
        u64 at = share.at(row + u * NORM_LANES);
        float x[8], side[8], d[8];
        from.spread_row(u, x, side, d);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          d[i] = slope<DERIVATIVE>(d[i], x[i], side[i], m[i], g[i], s[i]);
          d[i] = fmaf(g[i], d[i], fmaf(tilt[i], x[i] - m[i], level[i]));
        }
        if (adds) {
          float before[8];
          spread(fetch(dx + at, share), before);
#pragma unroll
          for (int i = 0; i < 8; ++i) d[i] += before[i];
        }
        put(dx + at, d, share);
      }
  }
}

// dx from dy and the sums of all parts; one block a tile leaves the gradients of scale and shift, where they are asked for.
// Grid: tiles, row blocks, groups; rows from the end as in batch_norm_apply.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
batch_norm_gradient_apply(store_t* dx, const store_t* x, const store_t* side, const store_t* dy, const float* scale,
                          const float* shift, const float* saved_mean, const float* saved_inverse, const float2* partials,
                          float* d_scale, float* d_shift, int rows, int channels, int parts, int rows_per_block,
                          int derivative, int adds, int vector) {
  __shared__ float2 held[NORM_THREADS];
  __shared__ Constants constants;
  int group = gridDim.z - 1 - blockIdx.z, block = gridDim.y - 1 - blockIdx.y, groups = gridDim.z;
  int at = threadIdx.x % NORM_TILE, slice = threadIdx.x / NORM_TILE, channel = blockIdx.x * NORM_TILE + at;
  bool keeps = d_scale && group == 0 && block == 0, writes = slice == 0 && channel < channels;
  float2 total = {0.0f, 0.0f};
  for (int which = group; which < (keeps ? groups : group + 1); ++which) {
    const float2* own = partials + (u64)which * parts * channels;
    float2 all = sums_of_parts(own, parts, channels, channel, slice, NORM_SLICES);
    all = sums_over_slices(all, held, at, slice, NORM_SLICES, NORM_TILE);
    total.x += all.x;
    total.y += all.y;
    if (writes && which == group) {
      float inverse = saved_inverse[group * channels + channel], gain = inverse * scale[channel], n = (float)rows;
      constants.mean[at] = saved_mean[group * channels + channel];
      constants.gain[at] = gain;
      constants.shift[at] = shift[channel];
      constants.tilt[at] = -gain * inverse * (all.y / n);
      constants.level[at] = -gain * (all.x / n);
    }
  }
  if (keeps && writes) { d_shift[channel] = total.x; d_scale[channel] = total.y; }
  __syncthreads();
  Share share = share_of(group, block, rows, rows_per_block, channels, vector);
  Gradients from;
  from.x = x; from.side = side; from.dy = dy;
  if (derivative == DERIVATIVE_RELU_OF_INPUT) gradient_rows<DERIVATIVE_RELU_OF_INPUT>(share, from, dx, adds, constants);
  else if (derivative == DERIVATIVE_RELU_OF_OUTPUT) gradient_rows<DERIVATIVE_RELU_OF_OUTPUT>(share, from, dx, adds, constants);
  else if (derivative == DERIVATIVE_SILU) gradient_rows<DERIVATIVE_SILU>(share, from, dx, adds, constants);
  else gradient_rows<DERIVATIVE_IDENTITY>(share, from, dx, adds, constants);
}

KERNEL_EXPORT(batch_norm_gradient_sums)
KERNEL_EXPORT(batch_norm_fold_gradients)
KERNEL_EXPORT(batch_norm_gradient_apply)
