// Pooling over a square window. A thread takes an octet of channels at one place of the map that is written; a block takes
// blockDim.y rows of images and blockDim.x octets along them.
struct PoolSizes { int in_height, in_width, channels, out_height, out_width, kernel, stride, padding; };
#define POOL_SIZES int in_height, int in_width, int channels, int out_height, int out_width, int kernel, int stride, int padding
#define POOL_PACK {in_height, in_width, channels, out_height, out_width, kernel, stride, padding}

// Where a thread writes; `valid` channels of eight, none outside.
struct PoolPlace { u64 image; int row, column, first, valid; };
__device__ __forceinline__ PoolPlace pool_place(u64 images, int height, int width, int channels) {
  int octets = (channels + 7) / 8;
  u64 row = (u64)blockIdx.x * blockDim.y + threadIdx.y, along = (u64)blockIdx.y * blockDim.x + threadIdx.x;
  PoolPlace at;
  at.image = row / height;
  at.row = (int)(row - at.image * height);
  at.column = (int)(along / octets);
  at.first = (int)(along - (u64)at.column * octets) * 8;
  at.valid = channels - at.first < 8 ? channels - at.first : 8;
  if (at.image >= images || along >= (u64)width * octets) at.valid = 0;
  return at;
}
__device__ __forceinline__ u64 pool_offset(u64 image, int row, int column, int height, int width, int channels, int first) {
  return ((image * height + row) * width + column) * channels + first;
}
__device__ __forceinline__ void pool_load(const store_t* from, float* to, int valid, int vector) {
  if (vector) { load8(from, to); return; }
#pragma unroll
  for (int i = 0; i < 8; ++i) to[i] = i < valid ? load(from[i]) : 0.0f;
}
__device__ __forceinline__ void pool_store(store_t* to, const float* from, int valid, int vector) {
  if (vector) { store8(to, from); return; }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < valid) to[i] = stored(from[i]);
}
__device__ __forceinline__ bool pool_nan(float value) { return value != value; }

// winners: the tap (row * kernel + column) of each output, 255 where no tap is inside. The first of equal ones wins.
extern "C" __global__ void pool2d_max_forward(store_t* y, u8* winners, const store_t* x, u64 images, POOL_SIZES, int vector) {
  PoolSizes s = POOL_PACK;
  PoolPlace at = pool_place(images, s.out_height, s.out_width, s.channels);
  if (!at.valid) return;
  float best[8];
  int winner[8];
#pragma unroll
  for (int i = 0; i < 8; ++i) { best[i] = __uint_as_float(0xff800000u); winner[i] = 255; }
  for (int kh = 0; kh < s.kernel; ++kh) {
    int row = at.row * s.stride + kh - s.padding;
    if (row < 0 || row >= s.in_height) continue;
    for (int kw = 0; kw < s.kernel; ++kw) {
      int column = at.column * s.stride + kw - s.padding;
      if (column < 0 || column >= s.in_width) continue;
      float values[8];
      pool_load(x + pool_offset(at.image, row, column, s.in_height, s.in_width, s.channels, at.first), values, at.valid, vector);
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        bool wins = values[i] > best[i] || winner[i] == 255 || (pool_nan(values[i]) && !pool_nan(best[i]));
        best[i] = wins ? values[i] : best[i];
        winner[i] = wins ? kh * s.kernel + kw : winner[i];
      }
    }
  }
  u64 place = pool_offset(at.image, at.row, at.column, s.out_height, s.out_width, s.channels, at.first);
  pool_store(y + place, best, at.valid, vector);
  if (vector) {
    uint2 bytes = {(u32)winner[0] | (u32)winner[1] << 8 | (u32)winner[2] << 16 | (u32)winner[3] << 24,
                   (u32)winner[4] | (u32)winner[5] << 8 | (u32)winner[6] << 16 | (u32)winner[7] << 24};
    *(uint2*)(winners + place) = bytes;
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; ++i)
    if (i < at.valid) winners[place + i] = (u8)winner[i];
}

extern "C" __global__ void pool2d_average_forward(store_t* y, const store_t* x, u64 images, POOL_SIZES, int vector) {
  PoolSizes s = POOL_PACK;
  PoolPlace at = pool_place(images, s.out_height, s.out_width, s.channels);
  if (!at.valid) return;
  float sum[8] = {}, weight = 1.0f / (float)(s.kernel * s.kernel);
  for (int kh = 0; kh < s.kernel; ++kh) {
    int row = at.row * s.stride + kh - s.padding;
    if (row < 0 || row >= s.in_height) continue;
    for (int kw = 0; kw < s.kernel; ++kw) {
      int column = at.column * s.stride + kw - s.padding;
      if (column < 0 || column >= s.in_width) continue;
      float values[8];
      pool_load(x + pool_offset(at.image, row, column, s.in_height, s.in_width, s.channels, at.first), values, at.valid, vector);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += values[i];
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) sum[i] *= weight;
  pool_store(y + pool_offset(at.image, at.row, at.column, s.out_height, s.out_width, s.channels, at.first), sum, at.valid, vector);
}

// First output whose window reaches a place, and the last.
__device__ __forceinline__ int pool_first_window(int place, const PoolSizes& s) {
  int reach = place + s.padding - s.kernel + 1;
  return reach <= 0 ? 0 : (reach + s.stride - 1) / s.stride;
}
__device__ __forceinline__ int pool_last_window(int place, int outputs, const PoolSizes& s) {
  int last = (place + s.padding) / s.stride;
  return last < outputs ? last : outputs - 1;
}
__device__ __forceinline__ void pool_deliver(store_t* to, float* values, int valid, int adds, int vector) {
  if (adds) {
    float before[8];
    pool_load(to, before, valid, vector);
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] += before[i];
  }
  pool_store(to, values, valid, vector);
}

// Each input sums the windows it won, row by row.
extern "C" __global__ void pool2d_max_backward(store_t* dx, const store_t* dy, const u8* winners, u64 images, POOL_SIZES,
                                               int adds, int vector) {
  PoolSizes s = POOL_PACK;
  PoolPlace at = pool_place(images, s.in_height, s.in_width, s.channels);
  if (!at.valid) return;
  float sum[8] = {};
  int last_row = pool_last_window(at.row, s.out_height, s), last_column = pool_last_window(at.column, s.out_width, s);
  for (int row = pool_first_window(at.row, s); row <= last_row; ++row)
    for (int column = pool_first_window(at.column, s); column <= last_column; ++column) {
      int tap = (at.row + s.padding - row * s.stride) * s.kernel + at.column + s.padding - column * s.stride;
      u64 place = pool_offset(at.image, row, column, s.out_height, s.out_width, s.channels, at.first);
      float values[8];
      pool_load(dy + place, values, at.valid, vector);
      u32 words[2] = {};
      if (vector) {
        uint2 bytes = *(const uint2*)(winners + place);
        words[0] = bytes.x; words[1] = bytes.y;
      } else {
#pragma unroll
        for (int i = 0; i < 8; ++i)
          if (i < at.valid) words[i / 4] |= (u32)winners[place + i] << 8 * (i % 4);
      }
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if ((int)(words[i / 4] >> 8 * (i % 4) & 255u) == tap) sum[i] += values[i];
    }
  pool_deliver(dx + pool_offset(at.image, at.row, at.column, s.in_height, s.in_width, s.channels, at.first), sum, at.valid,
               adds, vector);
}

extern "C" __global__ void pool2d_average_backward(store_t* dx, const store_t* dy, u64 images, POOL_SIZES, int adds,
                                                   int vector) {
  PoolSizes s = POOL_PACK;
  PoolPlace at = pool_place(images, s.in_height, s.in_width, s.channels);
  if (!at.valid) return;
  float sum[8] = {}, weight = 1.0f / (float)(s.kernel * s.kernel);
  int last_row = pool_last_window(at.row, s.out_height, s), last_column = pool_last_window(at.column, s.out_width, s);
  for (int row = pool_first_window(at.row, s); row <= last_row; ++row)
    for (int column = pool_first_window(at.column, s); column <= last_column; ++column) {
      float values[8];
      pool_load(dy + pool_offset(at.image, row, column, s.out_height, s.out_width, s.channels, at.first), values, at.valid, vector);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += values[i] * weight;
    }
  pool_deliver(dx + pool_offset(at.image, at.row, at.column, s.in_height, s.in_width, s.channels, at.first), sum, at.valid,
               adds, vector);
}

KERNEL_EXPORT(pool2d_max_forward)
KERNEL_EXPORT(pool2d_average_forward)
KERNEL_EXPORT(pool2d_max_backward)
KERNEL_EXPORT(pool2d_average_backward)
