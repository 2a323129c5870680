// Pillow's blur: three extended-box passes an axis, in 24-bit fixed point with 8 bits between passes.

// whole = radius, inner, outer; widths of the arithmetic are Pillow's.
__device__ __forceinline__ void extended_box_of_sigma(Drawn& drawn, float sigma) {
  float variance = sigma * sigma / 3.0f;
  float length = (float)sqrt(12.0 * (double)variance + 1.0);
  float whole = (float)floor(((double)length - 1.0) / 2.0);
  float numerator = (2.0f * whole + 1.0f) * (whole * (whole + 1.0f) - 3.0f * variance);
  float fraction = numerator / (6.0f * (variance - (whole + 1.0f) * (whole + 1.0f)));
  float box_radius = whole + fraction;
  int radius = box_radius > 0.0f ? (int)box_radius : 0;
  u32 inner = (u32)(16777216.0f / (box_radius * 2.0f + 1.0f));
  drawn.whole[0] = radius;
  drawn.whole[1] = (int)inner;
  drawn.whole[2] = (int)((16777216u - (2u * (u32)radius + 1u) * inner) / 2u);
}

__device__ __forceinline__ float weighted_level(float sum, u32 inner, float ends, u32 outer) {
  return (float)(((u32)sum * inner + (u32)ends * outer + (1u << 23)) >> 24);
}

// One pass along an axis of `length` places, `step` apart. Levels are whole numbers in float, so their sums are exact.
__device__ __forceinline__ void extended_box_pass(View& view, const Drawn& drawn, int vertical) {
  __syncthreads();
  int width = view.width, area = width * view.height, radius = drawn.whole[0];
  int length = vertical ? view.height : width, step = vertical ? width : 1;
  u32 inner = (u32)drawn.whole[1], outer = (u32)drawn.whole[2];
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    int place = vertical ? p / width : p % width, base = p - place * step;
    Pixel sum = {0.0f, 0.0f, 0.0f};
    for (int tap = -radius; tap <= radius; ++tap) {
      Pixel pixel = pixel_at(view.map, area, base + clamped(place + tap, length) * step);
      sum.red += pixel.red;
      sum.green += pixel.green;
      sum.blue += pixel.blue;
    }
    Pixel before = pixel_at(view.map, area, base + clamped(place - radius - 1, length) * step);
    Pixel after = pixel_at(view.map, area, base + clamped(place + radius + 1, length) * step);
    Pixel out = {weighted_level(sum.red, inner, before.red + after.red, outer),
                 weighted_level(sum.green, inner, before.green + after.green, outer),
                 weighted_level(sum.blue, inner, before.blue + after.blue, outer)};
    put_pixel(view.spare, area, p, out);
  }
  change_places(view);
}

__device__ __forceinline__ void extended_box_blur(View& view, const Drawn& drawn) {
  int area = view.width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    Pixel pixel = pixel_at(view.map, area, p);
    pixel = {(float)level_of_unit(pixel.red), (float)level_of_unit(pixel.green), (float)level_of_unit(pixel.blue)};
    put_pixel(view.map, area, p, pixel);
  }
  for (int pass = 0; pass < 6; ++pass) extended_box_pass(view, drawn, pass >= 3);
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    Pixel pixel = pixel_at(view.map, area, p);
    pixel = {pixel.red / 255.0f, pixel.green / 255.0f, pixel.blue / 255.0f};
    put_pixel(view.map, area, p, pixel);
  }
}
