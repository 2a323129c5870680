// What every kernel source may use. One text, two compilers: NVRTC for a device, a host C++ compiler for the emulation.
// STORAGE_BF16 says how activations are stored; without it they are float.
// Rules: extern "C" kernels, each named in KERNEL_EXPORT at the end of its source; no float atomics; no grid that depends
// on the device; fused multiply-adds only where fmaf says so (both compilers are told not to contract).
#ifdef __CUDACC_RTC__
#define SHARED_ARRAY(T, name) extern __shared__ __align__(16) T name[]
#define KERNEL_EXPORT(kernel)
#else
#include "shim.h"
#endif

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

__device__ __forceinline__ float f32_of_bf16(u16 value) { return __uint_as_float((u32)value << 16); }
// Nearest, ties to even; NaN stays NaN.
__device__ __forceinline__ u16 bf16_of_f32(float value) {
  u32 bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (u16)(bits >> 16 | 0x40u);
  return (u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

#ifdef STORAGE_BF16
typedef u16 store_t;
__device__ __forceinline__ float load(store_t value) { return f32_of_bf16(value); }
__device__ __forceinline__ store_t stored(float value) { return bf16_of_f32(value); }
#else
typedef float store_t;
__device__ __forceinline__ float load(store_t value) { return value; }
__device__ __forceinline__ store_t stored(float value) { return value; }
#endif

// Eight neighbours at a place that is a multiple of eight: one or two 16-byte accesses.
__device__ __forceinline__ void load8(const store_t* from, float* to) {
#ifdef STORAGE_BF16
  uint4 v = *(const uint4*)from;
  u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    to[2 * i] = __uint_as_float(words[i] << 16);
    to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
#else
  float4 a = ((const float4*)from)[0], b = ((const float4*)from)[1];
  to[0] = a.x; to[1] = a.y; to[2] = a.z; to[3] = a.w;
  to[4] = b.x; to[5] = b.y; to[6] = b.z; to[7] = b.w;
#endif
}
__device__ __forceinline__ void store8(store_t* to, const float* from) {
#ifdef STORAGE_BF16
  u32 words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = (u32)bf16_of_f32(from[2 * i]) | (u32)bf16_of_f32(from[2 * i + 1]) << 16;
  uint4 v = {words[0], words[1], words[2], words[3]};
  *(uint4*)to = v;
#else
  float4 a = {from[0], from[1], from[2], from[3]}, b = {from[4], from[5], from[6], from[7]};
  ((float4*)to)[0] = a; ((float4*)to)[1] = b;
#endif
}

// Sums over the 32 lanes of a warp by halves; every lane gets the same sum.
__device__ __forceinline__ float warp_sum(float value) {
  for (int offset = 16; offset; offset >>= 1) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}
__device__ __forceinline__ double warp_sum_f64(double value) {
  for (int offset = 16; offset; offset >>= 1) value += __shfl_xor_sync(~0u, value, offset);
  return value;
}

// e^x by additions and multiplications alone, the same bits as ops::nt_xent::exponential on the processor.
__device__ __forceinline__ float exponential(float x) {
  const float lowest = -87.33654f, highest = 88.02f, round = 12582912.0f;
  float clamped = x < lowest ? lowest : x > highest ? highest : x;
  float rounded = clamped * 1.44269504088896340736f + round;
  float n = rounded - round;
  float r = (clamped - n * 0.6933594f) - n * -2.1219444e-4f;
  float tail = 1.0f / 120.0f + r * (1.0f / 720.0f + r * (1.0f / 5040.0f));
  float polynomial = 0.5f + r * (1.0f / 6.0f + r * (1.0f / 24.0f + r * tail));
  float mantissa = 1.0f + (r + r * r * polynomial);
  float scaled = __uint_as_float(__float_as_uint(mantissa) + (__float_as_uint(rounded) << 23));
  // Not by `scaled`: the bits of a device's NaN turn into a finite number there.
  return x != x ? x : x < lowest ? 0.0f : scaled;
}

// Philox4x32-10, the same words as random::philox.
__device__ __forceinline__ uint4 philox(uint4 counter, uint2 key) {
  for (int round = 0; round < 10; ++round) {
    u32 high0 = __umulhi(0xD2511F53u, counter.x), low0 = 0xD2511F53u * counter.x;
    u32 high1 = __umulhi(0xCD9E8D57u, counter.z), low1 = 0xCD9E8D57u * counter.z;
    uint4 next = {high1 ^ counter.y ^ key.x, low1, high0 ^ counter.w ^ key.y, low0};
    counter = next;
    key.x += 0x9E3779B9u;
    key.y += 0xBB67AE85u;
  }
  return counter;
}
