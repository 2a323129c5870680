// The k nearest images of every query, kept as keys that put the nearer first and of equally near ones the lower index.

// Greater for the nearer; of equals for the lower index. 0 is no key: an index stays below 2³² − 1.
__device__ __forceinline__ u64 nearest_key(float nearness, u32 image) {
  // Of two zeros the negative one becomes the other.
  u32 bits = __float_as_uint(nearness + 0.0f);
  bits = bits >> 31 ? ~bits : bits | 0x80000000u;
  return (u64)bits << 32 | (u32)~image;
}

// Candidate i of a query: first those held, then the new images.
struct nearest_candidates {
  const u64* held;
  const float* products;
  const float* offsets;
  int n_held;
  u32 first;
  __device__ __forceinline__ u64 key(int i) const {
    if (i < n_held) return held[i];
    int image = i - n_held;
    float nearness = offsets ? products[image] - offsets[image] : products[image];
    return nearest_key(nearness, first + (u32)image);
  }
};

// In the first warp: the largest digit that, with all above it, counts at least `need`; what is still needed of it, and
// whether that is all of it.
__device__ __forceinline__ void nearest_digit(const u32* counts, u32 need, u32* found) {
  u32 lane = threadIdx.x, sum = 0;
  for (u32 i = 0; i < 8; ++i) sum += counts[255 - 8 * lane - i];
  u32 above = sum;
  for (u32 offset = 1; offset < 32; offset *= 2) {
    u32 other = __shfl_up_sync(~0u, above, offset);
    if (lane >= offset) above += other;
  }
  above -= sum;
  if (above >= need || above + sum < need) return;
  u32 digit = 255 - 8 * lane;
  while (above + counts[digit] < need) above += counts[digit--];
  found[0] = digit;
  found[1] = need - above;
  found[2] = counts[digit] == need - above;
}

// Keeps the k nearest of what is held and `n_new` images from index `first` on, whose products with the queries stand in
// rows of `stride`; nearness is the product less the image's offset, where there are offsets. A block a query.
// Digits of the keys are counted from the highest down until they tell the k-th key; counts do not depend on their order.
// `sort`: the power of two that k numbers fit in, to sort what is kept, or 0. Dynamic shared memory: that many u64, at
// least k.
extern "C" __global__ void __launch_bounds__(256)
nearest_keep(u64* keys, const float* products, const float* offsets, int stride, int n_held, int n_new, u32 first, int k,
             int sort) {
  SHARED_ARRAY(u64, kept);
  __shared__ u32 counts[256];
  __shared__ u32 found[3];
  __shared__ u32 n_kept;
  u32 thread = threadIdx.x;
  u64* held = keys + (u64)blockIdx.x * k;
  nearest_candidates candidates = {held, products + (u64)blockIdx.x * stride, offsets, n_held, first};
  int n = n_held + n_new;
  // The least key that is kept; its bits below the mask are 0.
  u64 least = 0, mask = 0;
  if (n > k) {
    u32 need = k;
    for (int shift = 56; shift >= 0; shift -= 8) {
      counts[thread] = 0;
      __syncthreads();
      for (int i = thread; i < n; i += 256) {
        u64 key = candidates.key(i);
        if ((key & mask) == least) atomicAdd(&counts[(u32)(key >> shift) & 255u], 1u);
      }
      __syncthreads();
      if (thread < 32) nearest_digit(counts, need, found);
      __syncthreads();
      least |= (u64)found[0] << shift;
      mask |= (u64)255 << shift;
      need = found[1];
      // All who share these digits are kept: the digits below do not matter.
      if (found[2]) break;
    }
  }
  for (int i = thread; i < sort; i += 256) kept[i] = 0;
  if (thread == 0) n_kept = 0;
  __syncthreads();
  for (int i = thread; i < n; i += 256) {
    u64 key = candidates.key(i);
    if (key >= least) kept[atomicAdd(&n_kept, 1u)] = key;
  }
  __syncthreads();
  // Bitonic, the greatest key first.
  for (int size = 2; size <= sort; size *= 2)
    for (int distance = size / 2; distance; distance /= 2) {
      for (int i = thread; i < sort; i += 256) {
        int other = i ^ distance;
        if (other <= i) continue;
        u64 a = kept[i], b = kept[other];
        if (a < b == ((i & size) == 0)) { kept[i] = b; kept[other] = a; }
      }
      __syncthreads();
    }
  for (int i = thread; i < k && i < n; i += 256) held[i] = kept[i];
}
KERNEL_EXPORT(nearest_keep)
