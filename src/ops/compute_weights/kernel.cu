// Many tensors in one launch: a block takes one chunk of one tensor, as a table says.

// One weight. Flat: outputs × kernel × kernel × channels of float. Matrix: (out_rows × out_columns × outputs) rows of
// (rows × columns × padded) numbers, in which output pixel and input pixel are joined by the tap
// (input row + row_padding − output row · stride, likewise the column); 0 where there is no such tap and in the padding.
// A matrix has fewer than 2^31 groups of eight numbers.
struct ComputeWeightsTensor {
  u64 flat;      // numbers from the start of the flat buffers
  u64 weight;    // bytes from the start of the weights
  u64 gradient;  // bytes from the start of the weight gradients
  int outputs, channels, padded, kernel;
  int rows, columns, out_rows, out_columns;
  int stride, row_padding, column_padding;
  int gradient_is_f32;
};
// Groups of eight numbers from `first` on.
struct ComputeWeightsChunk { u32 tensor, first; };
enum { COMPUTE_WEIGHTS_CHUNK = 512 };

__device__ __forceinline__ u32 compute_weights_end(ComputeWeightsChunk chunk, u32 groups) {
  return groups < chunk.first + COMPUTE_WEIGHTS_CHUNK ? groups : chunk.first + COMPUTE_WEIGHTS_CHUNK;
}

// `left` numbers of the channels are still to come; eight of them, or those and zeros.
__device__ __forceinline__ void compute_weights_load(const float* from, int left, bool aligned, float* to) {
  if (aligned && left >= 8) {
    float4 a = ((const float4*)from)[0], b = ((const float4*)from)[1];
    to[0] = a.x; to[1] = a.y; to[2] = a.z; to[3] = a.w;
    to[4] = b.x; to[5] = b.y; to[6] = b.z; to[7] = b.w;
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) to[i] = i < left ? from[i] : 0.0f;
  }
}

// Flat parameters to matrices of store_t.
extern "C" __global__ void __launch_bounds__(256) compute_weights_spread(const ComputeWeightsChunk* chunks,
    const ComputeWeightsTensor* tensors, const float* parameters, u8* weights) {
  ComputeWeightsChunk chunk = chunks[blockIdx.x];
  ComputeWeightsTensor t = tensors[chunk.tensor];
  const float* from = parameters + t.flat;
  store_t* to = (store_t*)(weights + t.weight);
  u32 groups = t.padded / 8, pixels = t.rows * t.columns, outputs = t.outputs;
  u32 end = compute_weights_end(chunk, t.out_rows * t.out_columns * outputs * pixels * groups);
  bool aligned = t.channels % 4 == 0 && t.flat % 4 == 0;
  for (u32 at = chunk.first + threadIdx.x; at < end; at += 256) {
    u32 rest = at / groups, channel = (at - rest * groups) * 8;
    u32 row = rest / pixels, pixel = rest - row * pixels;
    u32 out_pixel = row / outputs, output = row - out_pixel * outputs;
    int kh = (int)(pixel / t.columns) + t.row_padding - (int)(out_pixel / t.out_columns) * t.stride;
    int kw = (int)(pixel % t.columns) + t.column_padding - (int)(out_pixel % t.out_columns) * t.stride;
    float values[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (kh >= 0 && kh < t.kernel && kw >= 0 && kw < t.kernel) {
      u64 start = (u64)(output * t.kernel * t.kernel + kh * t.kernel + kw) * t.channels + channel;
      compute_weights_load(from + start, t.channels - (int)channel, aligned, values);
    }
    store8(to + (u64)at * 8, values);
  }
}
KERNEL_EXPORT(compute_weights_spread)

// Gradients of matrices to flat gradients: a tap gets the sum over the places where it stands, in the order of the output
// pixels, and 0 where it stands nowhere.
extern "C" __global__ void __launch_bounds__(256) compute_weights_gather(const ComputeWeightsChunk* chunks,
    const ComputeWeightsTensor* tensors, const u8* weight_gradients, float* gradients) {
  ComputeWeightsChunk chunk = chunks[blockIdx.x];
  ComputeWeightsTensor t = tensors[chunk.tensor];
  const u8* from = weight_gradients + t.gradient;
  float* to = gradients + t.flat;
  u32 groups = t.padded / 8, taps = t.kernel * t.kernel, outputs = t.outputs;
  u32 end = compute_weights_end(chunk, outputs * taps * groups);
  bool aligned = t.channels % 4 == 0 && t.flat % 4 == 0;
  for (u32 at = chunk.first + threadIdx.x; at < end; at += 256) {
    u32 rest = at / groups, channel = (at - rest * groups) * 8;
    u32 output = rest / taps, tap = rest - output * taps;
    int kh = (int)(tap / t.kernel), kw = (int)(tap % t.kernel);
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
#pragma unroll 1
    for (int oh = 0; oh < t.out_rows; ++oh) {
      int row = oh * t.stride + kh - t.row_padding;
      if (row < 0 || row >= t.rows) continue;
#pragma unroll 1
      for (int ow = 0; ow < t.out_columns; ++ow) {
        int column = ow * t.stride + kw - t.column_padding;
        if (column < 0 || column >= t.columns) continue;
        u32 line = ((oh * t.out_columns + ow) * outputs + output) * (t.rows * t.columns) + row * t.columns + column;
        u64 start = (u64)line * t.padded + channel;
        float values[8];
        if (t.gradient_is_f32) compute_weights_load((const float*)from + start, 8, true, values);
        else load8((const store_t*)from + start, values);
#pragma unroll
        for (int i = 0; i < 8; ++i) sum[i] += values[i];
      }
    }
    int left = t.channels - (int)channel;
    float* out = to + (u64)rest * t.channels + channel;
    if (aligned && left >= 8) {
      float4 a = {sum[0], sum[1], sum[2], sum[3]}, b = {sum[4], sum[5], sum[6], sum[7]};
      ((float4*)out)[0] = a; ((float4*)out)[1] = b;
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i) if (i < left) out[i] = sum[i];
    }
  }
}
KERNEL_EXPORT(compute_weights_gather)
