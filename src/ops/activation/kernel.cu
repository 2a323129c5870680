// Elementwise activations and sums over n numbers. A thread takes eight neighbours; the last one, or all where a place is not
// a multiple of 16 bytes, goes number by number.
#define ACTIVATION_RELU 1
#define ACTIVATION_SILU 2

__device__ __forceinline__ float activation_sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
__device__ __forceinline__ float activation_value(float x, int activation) {
  if (activation == ACTIVATION_RELU) return x < 0.0f ? 0.0f : x;
  if (activation == ACTIVATION_SILU) return x * activation_sigmoid(x);
  return x;
}
// `at` is the output of ReLU, the input of SiLU.
__device__ __forceinline__ float activation_slope(float dy, float at, int activation) {
  if (activation == ACTIVATION_RELU) return at > 0.0f ? dy : 0.0f;
  if (activation == ACTIVATION_SILU) {
    float s = activation_sigmoid(at);
    return dy * (s * (1.0f + at * (1.0f - s)));
  }
  return dy;
}
// First of the thread's eight numbers, and how many of them there are.
__device__ __forceinline__ u64 activation_first() { return ((u64)blockIdx.x * blockDim.x + threadIdx.x) * 8; }
__device__ __forceinline__ int activation_count(u64 first, u64 n) { return first >= n ? 0 : n - first < 8 ? (int)(n - first) : 8; }

extern "C" __global__ void activation_forward(store_t* y, const store_t* x, u64 n, int activation, int vector) {
  u64 first = activation_first();
  int count = activation_count(first, n);
  if (vector && count == 8) {
    float values[8];
    load8(x + first, values);
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] = activation_value(values[i], activation);
    store8(y + first, values);
    return;
  }
  for (int i = 0; i < count; ++i) y[first + i] = stored(activation_value(load(x[first + i]), activation));
}

// dx = dy * slope(at), or added to what is there.
extern "C" __global__ void activation_backward(store_t* dx, const store_t* dy, const store_t* at, u64 n, int activation,
                                               int adds, int vector) {
  u64 first = activation_first();
  int count = activation_count(first, n);
  if (vector && count == 8) {
    float gradient[8], places[8], before[8];
    load8(dy + first, gradient);
    load8(at + first, places);
    if (adds) load8(dx + first, before);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      gradient[i] = activation_slope(gradient[i], places[i], activation);
      if (adds) gradient[i] = before[i] + gradient[i];
    }
    store8(dx + first, gradient);
    return;
  }
  for (int i = 0; i < count; ++i) {
    float gradient = activation_slope(load(dy[first + i]), load(at[first + i]), activation);
    dx[first + i] = stored(adds ? load(dx[first + i]) + gradient : gradient);
  }
}

extern "C" __global__ void activation_add(store_t* out, const store_t* left, const store_t* right, u64 n, int vector) {
  u64 first = activation_first();
  int count = activation_count(first, n);
  if (vector && count == 8) {
    float values[8], others[8];
    load8(left + first, values);
    load8(right + first, others);
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i] += others[i];
    store8(out + first, values);
    return;
  }
  for (int i = 0; i < count; ++i) out[first + i] = stored(load(left[first + i]) + load(right[first + i]));
}

KERNEL_EXPORT(activation_forward)
KERNEL_EXPORT(activation_backward)
KERNEL_EXPORT(activation_add)
