// Bias of a linear layer: every row begins as the bias and a product is added to it; its gradient is the columns' sums.

// y[row, output] = bias[output], as store_t or float: a row and 256 outputs a block.
extern "C" __global__ void __launch_bounds__(256) linear_bias(store_t* y, const float* bias, int outputs) {
  int output = blockIdx.y * 256 + threadIdx.x;
  if (output < outputs) y[(u64)blockIdx.x * outputs + output] = stored(bias[output]);
}
KERNEL_EXPORT(linear_bias)

extern "C" __global__ void __launch_bounds__(256) linear_bias_f32(float* y, const float* bias, int outputs) {
  int output = blockIdx.y * 256 + threadIdx.x;
  if (output < outputs) y[(u64)blockIdx.x * outputs + output] = bias[output];
}
KERNEL_EXPORT(linear_bias_f32)

// sum + rest is the sum so far, rest what rounding took from it.
__device__ __forceinline__ void linear_add(float* sum, float* rest, float value) {
  float total = *sum + value, part = total - *sum;
  *rest += (*sum - (total - part)) + (value - part);
  *sum = total;
}

// gradient[output] = sum over rows of dy[row, output]: 32 outputs a block; thread (lane, step) sums eight of them over every
// 64th row, then the 64 sums are added by halves.
extern "C" __global__ void __launch_bounds__(256) linear_bias_gradient(const store_t* dy, float* gradient, int rows,
    int outputs) {
  __shared__ float sums[64][33], rests[64][33];
  int group = threadIdx.x % 4, step = threadIdx.x / 4;
  int first = blockIdx.x * 32 + group * 8;
  float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0}, rest[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  if (outputs % 8 == 0) {
    if (first < outputs)
#pragma unroll 4
      for (int row = step; row < rows; row += 64) {
        float values[8];
        load8(dy + (u64)row * outputs + first, values);
#pragma unroll
        for (int i = 0; i < 8; ++i) linear_add(&sum[i], &rest[i], values[i]);
      }
  } else {
    for (int row = step; row < rows; row += 64)
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (first + i < outputs) linear_add(&sum[i], &rest[i], load(dy[(u64)row * outputs + first + i]));
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    sums[step][group * 8 + i] = sum[i];
    rests[step][group * 8 + i] = rest[i];
  }
  __syncthreads();
  for (int half = 32; half; half /= 2) {
    for (int at = threadIdx.x; at < half * 32; at += 256) {
      int row = at / 32, column = at % 32;
      rests[row][column] += rests[row + half][column];
      linear_add(&sums[row][column], &rests[row][column], sums[row + half][column]);
    }
    __syncthreads();
  }
  int output = blockIdx.x * 32 + threadIdx.x;
  if (threadIdx.x < 32 && output < outputs) gradient[output] = sums[0][threadIdx.x] + rests[0][threadIdx.x];
}
KERNEL_EXPORT(linear_bias_gradient)
