// One thread an element, or one a pixel where channels are padded.

extern "C" __global__ void precision_widen(float* out, const store_t* in, u64 n) {
  u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = load(in[i]);
}

extern "C" __global__ void precision_narrow(store_t* out, const float* in, u64 n) {
  u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = stored(in[i]);
}

// out[pixel][0..padded] = in[pixel][0..channels], then zeros.
extern "C" __global__ void precision_pad(store_t* out, const float* in, u64 pixels, int channels, int padded) {
  u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= pixels) return;
  for (int c = 0; c < padded; ++c) out[i * padded + c] = stored(c < channels ? in[i * channels + c] : 0.0f);
}

// total += part, in f32 whatever activations are stored as.
extern "C" __global__ void precision_add(float* total, const float* part, u64 n) {
  u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) total[i] += part[i];
}

KERNEL_EXPORT(precision_widen)
KERNEL_EXPORT(precision_narrow)
KERNEL_EXPORT(precision_pad)
KERNEL_EXPORT(precision_add)
