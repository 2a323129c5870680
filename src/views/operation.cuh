// What an augmentation's device code is given and draws: the draws of random::Stream, the operation as views::operation
// packs it, and what one draw came to.

enum OperationKind {
  RANDOM_RESIZED_CROP = 0, HORIZONTAL_FLIP = 1, VERTICAL_FLIP = 2, ROTATE_90 = 3, ROTATE = 4,
  COLOR_JITTER = 5, GRAYSCALE = 6, GAUSSIAN_BLUR = 7, SOLARIZE = 8, NORMALIZE = 9
};

// 44 bytes. `room`: first of the floats that hold this operation's weights. `parameters`: see each kernel.cuh.
struct Operation {
  int kind, variant, room;
  float p;
  float parameters[7];
};

// 36 bytes: one operation's draw for one view.
struct Drawn {
  int applied;
  int whole[4];
  float real[4];
};

struct Stream {
  uint4 counter, block;
  uint2 key;
  int used;
};

// Counter words: example, epoch, purpose (3: a view) | view | operation, index of the block of four draws.
__device__ __forceinline__ Stream stream_at(u64 seed, u32 example, u32 epoch, u32 view, u32 operation) {
  Stream stream;
  stream.counter = {example, epoch, 3u << 24 | view << 16 | (operation & 255u), 0u};
  stream.block = {0u, 0u, 0u, 0u};
  stream.key = {(u32)seed, (u32)(seed >> 32)};
  stream.used = 4;
  return stream;
}

__device__ __forceinline__ u32 next_u32(Stream& stream) {
  if (stream.used == 4) {
    stream.block = philox(stream.counter, stream.key);
    ++stream.counter.w;
    stream.used = 0;
  }
  int used = stream.used++;
  return used == 0 ? stream.block.x : used == 1 ? stream.block.y : used == 2 ? stream.block.z : stream.block.w;
}

// Uniform in [0, 1): 24 bits, exact.
__device__ __forceinline__ float unit(Stream& stream) { return (float)(next_u32(stream) >> 8) * (1.0f / 16777216.0f); }

__device__ __forceinline__ float uniform(Stream& stream, float low, float high) {
  return fmaf(unit(stream), high - low, low);
}

__device__ __forceinline__ int chance(Stream& stream, float p) { return unit(stream) < p; }

// Uniform in 0..n.
__device__ __forceinline__ int below(Stream& stream, int n) { return (int)__umulhi(next_u32(stream), (u32)n); }
