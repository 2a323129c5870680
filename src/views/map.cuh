// The image between two operations, in the block's working memory.
//
// Pixel p of a map belongs to thread p modulo the threads of the block. What works on single pixels touches a thread's own
// pixels only and needs no barrier. What reads other pixels waits first; it then reads `map`, writes its own pixels of
// `spare` and lets the two change places. Whoever still reads the old map is waited for by the next that writes there.

struct View {
  float* map;    // 3 × height × width, the red plane first
  float* spare;  // as large
  int width, height;
  float* taps;   // of a resize
  int reach;     // most inputs an output of a resize has
  float* lanes;  // 16 partial sums
};

struct Pixel {
  float red, green, blue;
};

__device__ __forceinline__ Pixel pixel_at(const float* map, int area, int p) {
  Pixel pixel = {map[p], map[area + p], map[2 * area + p]};
  return pixel;
}

__device__ __forceinline__ void put_pixel(float* map, int area, int p, Pixel pixel) {
  map[p] = pixel.red;
  map[area + p] = pixel.green;
  map[2 * area + p] = pixel.blue;
}

__device__ __forceinline__ void change_places(View& view) {
  float* map = view.map;
  view.map = view.spare;
  view.spare = map;
}

__device__ __forceinline__ int clamped(int index, int length) {
  return index < 0 ? 0 : index < length ? index : length - 1;
}

__device__ __forceinline__ float clamped_to_one(float value) {
  return value < 0.0f ? 0.0f : value > 1.0f ? 1.0f : value;
}

// Level v as v / 255, correctly rounded: a product by the reciprocal and one correction.
__device__ __forceinline__ float unit_of_level(u8 level) {
  float v = (float)level, reciprocal = 1.0f / 255.0f, quotient = v * reciprocal;
  return fmaf(fmaf(-255.0f, quotient, v), reciprocal, quotient);
}

// The nearest level, as whole number; what lies outside is clipped, what is no number is 0.
__device__ __forceinline__ u32 level_of_unit(float value) {
  float level = value * 255.0f + 0.5f;
  return level >= 255.0f ? 255u : level > 0.0f ? (u32)level : 0u;
}

// An 8-bit image: height × width × 3.
struct Image {
  const u8* pixels;
  int width, height;
};

__device__ __forceinline__ void load_whole(View& view, Image image) {
  int area = image.width * image.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    const u8* from = image.pixels + 3 * (u64)p;
    Pixel pixel = {unit_of_level(from[0]), unit_of_level(from[1]), unit_of_level(from[2])};
    put_pixel(view.map, area, p, pixel);
  }
  view.width = image.width;
  view.height = image.height;
}
