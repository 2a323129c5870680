// Batch norm over rows x channels, with a residual and an activation behind it. A row is one position of one image; the rows
// of a group lie together. A block takes a tile of 64 channels: 8 threads side by side with an octet of channels each, and
// 32 lanes of rows. Moments are (count, mean, sum of squared differences from the mean), merged by Chan, Golub and LeVeque's
// formula in an order that shapes alone decide.
#define NORM_TILE 64
#define NORM_LANES 32
#define NORM_THREADS 256
#define NORM_SLICES 4
#define FOLD_CHANNELS 16
#define FOLD_SLICES 32

// Eight neighbouring channels as stored, so that what is in flight takes few registers. Rows a thread has in flight:
// NORM_ROWS of one array, NORM_ROWS_BESIDE of several side by side.
#ifdef STORAGE_BF16
#define NORM_ROWS 4
#define NORM_ROWS_BESIDE 2
struct Octet { uint4 words; };
__device__ __forceinline__ void spread(const Octet& octet, float* to) {
  u32 words[4] = {octet.words.x, octet.words.y, octet.words.z, octet.words.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = __uint_as_float(words[i] << 16);
    to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}
__device__ __forceinline__ Octet packed(const store_t* v) {
  Octet octet = {{(u32)v[0] | (u32)v[1] << 16, (u32)v[2] | (u32)v[3] << 16, (u32)v[4] | (u32)v[5] << 16,
                  (u32)v[6] | (u32)v[7] << 16}};
  return octet;
}
#else
#define NORM_ROWS 2
#define NORM_ROWS_BESIDE 1
struct Octet { float4 low, high; };
__device__ __forceinline__ void spread(const Octet& octet, float* to) {
  to[0] = octet.low.x; to[1] = octet.low.y; to[2] = octet.low.z; to[3] = octet.low.w;
  to[4] = octet.high.x; to[5] = octet.high.y; to[6] = octet.high.z; to[7] = octet.high.w;
}
__device__ __forceinline__ Octet packed(const store_t* v) {
  Octet octet = {{v[0], v[1], v[2], v[3]}, {v[4], v[5], v[6], v[7]}};
  return octet;
}
#endif

// A thread's share of a block's rows: rows `lane`, `lane` + 32, ... of `n`, `valid` channels from `first` on.
struct Share {
  u64 origin;
  int lane, n, channels, column, valid;
  bool vector;
  __device__ __forceinline__ u64 at(int row) const { return origin + (u64)row * channels; }
};
__device__ __forceinline__ Share share_of(int group, int block, int rows, int rows_per_block, int channels, int vector) {
  Share share;
  share.lane = threadIdx.x / 8;
  share.column = threadIdx.x % 8 * 8;
  int first = blockIdx.x * NORM_TILE + share.column, row = block * rows_per_block;
  share.valid = channels - first > 8 ? 8 : channels - first;
  share.n = rows - row < rows_per_block ? rows - row : rows_per_block;
  if (share.valid <= 0) share.n = 0;
  share.channels = channels;
  share.vector = vector;
  share.origin = ((u64)group * rows + row) * channels + first;
  return share;
}
__device__ __forceinline__ Octet fetch(const store_t* from, const Share& share) {
  if (share.vector) return *(const Octet*)from;
  store_t values[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) values[i] = i < share.valid ? from[i] : stored(0.0f);
  return packed(values);
}
__device__ __forceinline__ void put(store_t* to, const float* values, const Share& share) {
  if (share.vector) { store8(to, values); return; }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < share.valid) to[i] = stored(values[i]);
}

struct Moments { float n, mean, m2; };
__device__ __forceinline__ Moments merged(Moments a, Moments b) {
  if (b.n == 0.0f) return a;
  if (a.n == 0.0f) return b;
  float n = a.n + b.n, d = b.mean - a.mean, w = b.n / n;
  Moments both = {n, fmaf(d, w, a.mean), a.m2 + b.m2 + d * d * (a.n * w)};
  return both;
}
// Over the slices of each channel, by halves; what slice 0 returns is the result.
__device__ __forceinline__ Moments over_slices(Moments own, Moments* held, int at, int slice, int slices, int width) {
  for (int half = slices / 2; half; half /= 2) {
    held[slice * width + at] = own;
    __syncthreads();
    if (slice < half) own = merged(own, held[(slice + half) * width + at]);
    __syncthreads();
  }
  return own;
}
__device__ __forceinline__ float2 sums_over_slices(float2 own, float2* held, int at, int slice, int slices, int width) {
  for (int half = slices / 2; half; half /= 2) {
    held[slice * width + at] = own;
    __syncthreads();
    if (slice < half) { float2 other = held[(slice + half) * width + at]; own.x += other.x; own.y += other.y; }
    __syncthreads();
  }
  return own;
}
// One slice of a channel's partials: mean and m2 of each part.
__device__ __forceinline__ Moments moments_of_parts(const float2* partials, int parts, int rows, int rows_per_part,
                                                    int channels, int channel, int slice, int slices) {
  Moments all = {0.0f, 0.0f, 0.0f};
  if (channel >= channels) return all;
#pragma unroll 4
  for (int part = slice; part < parts; part += slices) {
    float2 v = partials[(u64)part * channels + channel];
    int left = rows - part * rows_per_part;
    Moments one = {(float)(left < rows_per_part ? left : rows_per_part), v.x, v.y};
    all = merged(all, one);
  }
  return all;
}
__device__ __forceinline__ float2 sums_of_parts(const float2* partials, int parts, int channels, int channel, int slice,
                                                int slices) {
  float2 all = {0.0f, 0.0f};
  if (channel >= channels) return all;
#pragma unroll 4
  for (int part = slice; part < parts; part += slices) {
    float2 v = partials[(u64)part * channels + channel];
    all.x += v.x;
    all.y += v.y;
  }
  return all;
}

// partials[group][part][channel] = (mean, m2) of that part's rows. All means are differences from the group's first row, so
// that they keep the digits in which parts differ. Grid: tiles, parts, groups.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
batch_norm_moments(float2* partials, const store_t* x, int rows, int channels, int rows_per_part, int vector) {
  __shared__ __align__(16) float means[NORM_LANES][NORM_TILE];
  __shared__ __align__(16) float squares[NORM_LANES][NORM_TILE];
  __shared__ Moments held[NORM_THREADS];
  Share share = share_of(blockIdx.z, blockIdx.y, rows, rows_per_part, channels, vector);
  // Differences from the mean of the thread's first rows: they cancel little wherever the mean lies.
  float pivot[8] = {}, sum[8] = {}, square[8] = {};
  for (int row = share.lane; row < share.n; row += NORM_LANES * NORM_ROWS) {
    Octet octets[NORM_ROWS];
#pragma unroll
    for (int u = 0; u < NORM_ROWS; ++u)
      if (row + u * NORM_LANES < share.n) octets[u] = fetch(x + share.at(row + u * NORM_LANES), share);
    if (row == share.lane) {
      float n = 0.0f;
#pragma unroll
      for (int u = 0; u < NORM_ROWS; ++u)
        if (row + u * NORM_LANES < share.n) {
          float values[8];
          spread(octets[u], values);
#pragma unroll
          for (int i = 0; i < 8; ++i) pivot[i] += values[i];
          n += 1.0f;
        }
#pragma unroll
      for (int i = 0; i < 8; ++i) pivot[i] /= n;
    }
#pragma unroll
    for (int u = 0; u < NORM_ROWS; ++u)
      if (row + u * NORM_LANES < share.n) {
        float values[8];
        spread(octets[u], values);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float d = values[i] - pivot[i];
          sum[i] += d;
          square[i] = fmaf(d, d, square[i]);
        }
      }
  }
  int count = (share.n - share.lane + NORM_LANES - 1) / NORM_LANES;
  float n = count > 0 ? (float)count : 1.0f, first[8] = {};
  if (share.n > 0) spread(fetch(x + (share.origin - (u64)blockIdx.y * rows_per_part * channels), share), first);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    float mean = sum[i] / n, m2 = square[i] - sum[i] * mean;
    means[share.lane][share.column + i] = (pivot[i] - first[i]) + mean;
    squares[share.lane][share.column + i] = m2 < 0.0f ? 0.0f : m2;
  }
  __syncthreads();
  int at = threadIdx.x % NORM_TILE, slice = threadIdx.x / NORM_TILE, channel = blockIdx.x * NORM_TILE + at;
  int left = rows - (int)blockIdx.y * rows_per_part, all_rows = left < rows_per_part ? left : rows_per_part;
  Moments all = {0.0f, 0.0f, 0.0f};
  for (int lane = slice; lane < NORM_LANES; lane += NORM_SLICES) {
    int count = (all_rows - lane + NORM_LANES - 1) / NORM_LANES;
    Moments one = {count > 0 ? (float)count : 0.0f, means[lane][at], squares[lane][at]};
    all = merged(all, one);
  }
  all = over_slices(all, held, at, slice, NORM_SLICES, NORM_TILE);
  if (slice == 0 && channel < channels) {
    float2 out = {all.mean, all.m2};
    partials[((u64)blockIdx.z * gridDim.y + blockIdx.y) * channels + channel] = out;
  }
}

// Many parts to one: folded[group][channel]. Grid: channels / 16, groups.
extern "C" __global__ void __launch_bounds__(FOLD_CHANNELS * FOLD_SLICES)
batch_norm_fold_moments(float2* folded, const float2* partials, int rows, int channels, int parts, int rows_per_part) {
  __shared__ Moments held[FOLD_CHANNELS * FOLD_SLICES];
  int at = threadIdx.x % FOLD_CHANNELS, slice = threadIdx.x / FOLD_CHANNELS, channel = blockIdx.x * FOLD_CHANNELS + at;
  const float2* own = partials + (u64)blockIdx.y * parts * channels;
  Moments all = moments_of_parts(own, parts, rows, rows_per_part, channels, channel, slice, FOLD_SLICES);
  all = over_slices(all, held, at, slice, FOLD_SLICES, FOLD_CHANNELS);
  if (slice == 0 && channel < channels) {
    float2 out = {all.mean, all.m2};
    folded[(u64)blockIdx.y * channels + channel] = out;
  }
}

// The same expression in both passes, so that ReLU's mask is the same.
__device__ __forceinline__ float normalized(float x, float mean, float gain, float shift) {
  return fmaf(x - mean, gain, shift);
}
__device__ __forceinline__ float inverse_deviation(float variance) { return 1.0f / sqrtf(variance + 1e-5f); }

#define IDENTITY 0
#define RELU 1
#define SILU 2
template <int ACTIVATION> __device__ __forceinline__ float activated(float z) {
  if (ACTIVATION == RELU) return z < 0.0f ? 0.0f : z;
  if (ACTIVATION == SILU) return z * (1.0f / (1.0f + exponential(-z)));
  return z;
}
template <int ACTIVATION>
__device__ __forceinline__ void normalize_rows(const Share& share, store_t* y, const store_t* x, const store_t* residual,
                                               const float* mean, const float* gain, const float* shift) {
  float m[8], g[8], s[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) { m[i] = mean[share.column + i]; g[i] = gain[share.column + i]; s[i] = shift[share.column + i]; }
  for (int row = share.lane; row < share.n; row += NORM_LANES * NORM_ROWS_BESIDE) {
    Octet inputs[NORM_ROWS_BESIDE], residuals[NORM_ROWS_BESIDE];
#pragma unroll
    for (int u = 0; u < NORM_ROWS_BESIDE; ++u)
      if (row + u * NORM_LANES < share.n) {
        inputs[u] = fetch(x + share.at(row + u * NORM_LANES), share);
        if (residual) residuals[u] = fetch(residual + share.at(row + u * NORM_LANES), share);
      }
#pragma unroll
    for (int u = 0; u < NORM_ROWS_BESIDE; ++u)
      if (row + u * NORM_LANES < share.n) {
        float values[8], added[8];
        spread(inputs[u], values);
        if (residual) spread(residuals[u], added);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          float z = normalized(values[i], m[i], g[i], s[i]);
          values[i] = activated<ACTIVATION>(residual ? z + added[i] : z);
        }
        put(y + share.at(row + u * NORM_LANES), values, share);
      }
  }
}

// y from x and the statistics: those of `partials`, or the running ones where there are none. One block a tile keeps the
// statistics of every group and moves the running ones. y is not x: every block reads the group's first row. Grid: tiles,
// row blocks, groups; rows are taken from the end, which the pass before left in the cache.
extern "C" __global__ void __launch_bounds__(NORM_THREADS)
batch_norm_apply(store_t* y, const store_t* x, const store_t* residual, const float* scale, const float* shift,
                 const float2* partials, float* saved_mean, float* saved_inverse, float* running_mean, float* running_var,
                 int rows, int channels, int parts, int rows_per_part, int rows_per_block, int activation, int vector) {
  __shared__ Moments held[NORM_THREADS];
  __shared__ float mean[NORM_TILE], gain[NORM_TILE], offset[NORM_TILE];
  int group = gridDim.z - 1 - blockIdx.z, block = gridDim.y - 1 - blockIdx.y, groups = gridDim.z;
  int at = threadIdx.x % NORM_TILE, slice = threadIdx.x / NORM_TILE, channel = blockIdx.x * NORM_TILE + at;
  bool keeps = group == 0 && block == 0, writes = slice == 0 && channel < channels;
  if (partials) {
    for (int g = group; g < (keeps ? groups : group + 1); ++g) {
      const float2* own = partials + (u64)g * parts * channels;
      Moments all = moments_of_parts(own, parts, rows, rows_per_part, channels, channel, slice, NORM_SLICES);
      all = over_slices(all, held, at, slice, NORM_SLICES, NORM_TILE);
      if (!writes) continue;
      float inverse = inverse_deviation(all.m2 / all.n);
      all.mean += load(x[(u64)g * rows * channels + channel]);
      if (g == group) { mean[at] = all.mean; gain[at] = inverse * scale[channel]; offset[at] = shift[channel]; }
      if (keeps) {
        saved_mean[g * channels + channel] = all.mean;
        saved_inverse[g * channels + channel] = inverse;
        if (running_mean) {
          float unbiased = all.m2 / (all.n > 2.0f ? all.n - 1.0f : 1.0f);
          running_mean[channel] += 0.1f * (all.mean - running_mean[channel]);
          running_var[channel] += 0.1f * (unbiased - running_var[channel]);
        }
      }
    }
  } else if (writes) {
    mean[at] = running_mean[channel];
    gain[at] = inverse_deviation(running_var[channel]) * scale[channel];
    offset[at] = shift[channel];
  }
  __syncthreads();
  Share share = share_of(group, block, rows, rows_per_block, channels, vector);
  if (activation == RELU) normalize_rows<RELU>(share, y, x, residual, mean, gain, offset);
  else if (activation == SILU) normalize_rows<SILU>(share, y, x, residual, mean, gain, offset);
  else normalize_rows<IDENTITY>(share, y, x, residual, mean, gain, offset);
}

KERNEL_EXPORT(batch_norm_moments)
KERNEL_EXPORT(batch_norm_fold_moments)
KERNEL_EXPORT(batch_norm_apply)
