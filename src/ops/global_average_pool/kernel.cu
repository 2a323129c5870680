// Mean over the positions of images x positions x channels. A thread takes an octet of channels.
struct AveragedOctet { u64 row; int first, valid; };
// Thread `index` of rows x octets: rows are images, or images x positions.
__device__ __forceinline__ AveragedOctet averaged_octet(u64 rows, int channels) {
  int octets = (channels + 7) / 8;
  u64 index = (u64)blockIdx.x * blockDim.x + threadIdx.x, row = index / octets;
  int first = (int)(index - row * octets) * 8;
  AveragedOctet at = {row, first, row >= rows ? 0 : channels - first < 8 ? channels - first : 8};
  return at;
}

extern "C" __global__ void global_average_pool_forward(store_t* y, const store_t* x, u64 images, int positions,
                                                       int channels, int vector) {
  AveragedOctet at = averaged_octet(images, channels);
  if (!at.valid) return;
  const store_t* from = x + at.row * positions * channels + at.first;
  store_t* to = y + at.row * channels + at.first;
  float sum[8] = {}, weight = 1.0f / (float)positions;
  if (vector) {
#pragma unroll 4
    for (int position = 0; position < positions; ++position) {
      float values[8];
      load8(from + (u64)position * channels, values);
#pragma unroll
      for (int i = 0; i < 8; ++i) sum[i] += values[i];
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[i] *= weight;
    store8(to, sum);
    return;
  }
  for (int i = 0; i < at.valid; ++i) {
    float total = 0.0f;
    for (int position = 0; position < positions; ++position) total += load(from[(u64)position * channels + i]);
    to[i] = stored(total * weight);
  }
}

// A thread takes an octet of one position.
extern "C" __global__ void global_average_pool_backward(store_t* dx, const store_t* dy, u64 images, int positions,
                                                        int channels, int adds, int vector) {
  AveragedOctet at = averaged_octet(images * positions, channels);
  if (!at.valid) return;
  const store_t* from = dy + at.row / positions * channels + at.first;
  store_t* to = dx + at.row * channels + at.first;
  float weight = 1.0f / (float)positions;
  if (vector) {
    float values[8], before[8];
    load8(from, values);
    if (adds) load8(to, before);
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = adds ? before[i] + values[i] * weight : values[i] * weight;
    store8(to, values);
    return;
  }
  for (int i = 0; i < at.valid; ++i) {
    float value = load(from[i]) * weight;
    to[i] = stored(adds ? load(to[i]) + value : value);
  }
}

KERNEL_EXPORT(global_average_pool_forward)
KERNEL_EXPORT(global_average_pool_backward)
