// Brightness, contrast, saturation and hue, in random order. Variant 1: the hue as Pillow shifts it.
// Parameters: brightness low, high; contrast low, high; saturation low, high; largest hue shift.

// whole = the order, four bits an adjustment, the first lowest; real = brightness, contrast, saturation, hue.
__device__ __forceinline__ Drawn color_jitter_draw(Stream& stream, const Operation& operation) {
  const float* q = operation.parameters;
  Drawn drawn = {};
  drawn.applied = chance(stream, operation.p);
  if (!drawn.applied) return drawn;
  u32 order = 0x3210u;
  for (int last = 3; last > 0; --last) {
    int chosen = below(stream, last + 1);
    u32 both = ((order >> 4 * last) ^ (order >> 4 * chosen)) & 15u;
    order ^= both << 4 * last | both << 4 * chosen;
  }
  drawn.whole[0] = (int)order;
  drawn.real[0] = uniform(stream, q[0], q[1]);
  drawn.real[1] = uniform(stream, q[2], q[3]);
  drawn.real[2] = uniform(stream, q[4], q[5]);
  float turns = uniform(stream, -q[6], q[6]);
  drawn.real[3] = turns - rintf(turns);
  return drawn;
}

__device__ __forceinline__ float blend(float value, float factor, float reference) {
  return clamped_to_one(factor * value + (1.0f - factor) * reference);
}

__device__ __forceinline__ void brightness(View& view, float factor) {
  if (factor == 1.0f) return;
  int area = view.width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    Pixel pixel = pixel_at(view.map, area, p);
    pixel = {clamped_to_one(factor * pixel.red), clamped_to_one(factor * pixel.green),
             clamped_to_one(factor * pixel.blue)};
    put_pixel(view.map, area, p, pixel);
  }
}

// Blends with the mean luminance of the image, or of the pixel.
__device__ __forceinline__ void blend_with_grey(View& view, float factor, int with_mean) {
  if (factor == 1.0f) return;
  float mean = with_mean ? mean_luminance(view) : 0.0f;
  int area = view.width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    Pixel pixel = pixel_at(view.map, area, p);
    float grey = with_mean ? mean : luminance(pixel);
    pixel = {blend(pixel.red, factor, grey), blend(pixel.green, factor, grey), blend(pixel.blue, factor, grey)};
    put_pixel(view.map, area, p, pixel);
  }
}

__device__ __forceinline__ void color_jitter(View& view, const Drawn& drawn, int pillow) {
  for (int turn = 0; turn < 4; ++turn) {
    int adjustment = drawn.whole[0] >> 4 * turn & 15;
    if (adjustment == 0) brightness(view, drawn.real[0]);
    else if (adjustment == 3) shift_hue(view, drawn.real[3], pillow);
    else blend_with_grey(view, adjustment == 1 ? drawn.real[1] : drawn.real[2], adjustment == 1);
  }
}
