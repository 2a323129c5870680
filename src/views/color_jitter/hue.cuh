// The hue shift: in float, or through Pillow's 8-bit HSV.

__device__ __forceinline__ float larger(float a, float b) { return a > b ? a : b; }
__device__ __forceinline__ float smaller(float a, float b) { return a < b ? a : b; }

// V − C · clip(min(k, 4 − k), 0, 1) with k = (n + hue) mod 6.
__device__ __forceinline__ float channel_of_hue(float n, float hue, float value, float chroma) {
  float k = n + hue;
  k = k >= 6.0f ? k - 6.0f : k;
  return value - chroma * larger(0.0f, smaller(1.0f, smaller(k, 4.0f - k)));
}

__device__ __forceinline__ Pixel hue_shifted(Pixel pixel, float sixths) {
  float red = pixel.red, green = pixel.green, blue = pixel.blue;
  float value = larger(red, larger(green, blue)), chroma = value - smaller(red, smaller(green, blue));
  float divisor = chroma == 0.0f ? 1.0f : chroma;
  float difference = value == red ? green - blue : value == green ? blue - red : red - green;
  float sector = value == red ? 0.0f : value == green ? 2.0f : 4.0f;
  float hue = difference / divisor + sector + sixths;
  hue = hue < 0.0f ? hue + 6.0f : hue;
  hue = hue >= 6.0f ? hue - 6.0f : hue;
  Pixel shifted = {channel_of_hue(5.0f, hue, value, chroma), channel_of_hue(3.0f, hue, value, chroma),
                   channel_of_hue(1.0f, hue, value, chroma)};
  return shifted;
}

struct Levels {
  u32 first, second, third;
};

// Float and double as Pillow mixes them.
__device__ __forceinline__ Levels hsv_of_levels(Levels rgb) {
  u32 red = rgb.first, green = rgb.second, blue = rgb.third;
  u32 largest = red > green ? red : green, smallest = red < green ? red : green;
  largest = largest > blue ? largest : blue;
  smallest = smallest < blue ? smallest : blue;
  Levels hsv = {0u, 0u, largest};
  if (largest == smallest) return hsv;
  float chroma = (float)(largest - smallest), saturation = chroma / (float)largest;
  float below_red = (float)(largest - red) / chroma, below_green = (float)(largest - green) / chroma;
  float below_blue = (float)(largest - blue) / chroma;
  float sixths = red == largest     ? below_blue - below_green
                 : green == largest ? (float)(2.0 + (double)below_red - (double)below_blue)
                                    : (float)(4.0 + (double)below_green - (double)below_red);
  double turns = (double)sixths / 6.0 + 1.0;
  float wrapped = (float)(turns >= 1.0 ? turns - 1.0 : turns);
  hsv.first = (u32)((double)wrapped * 255.0);
  hsv.second = (u32)((double)saturation * 255.0);
  return hsv;
}

// C's round, of what fits a level.
__device__ __forceinline__ u32 rounded_share(u32 value, double share) {
  double x = (double)value * share;
  u32 whole = (u32)x;
  return x - (double)whole >= 0.5 && whole < 255u ? whole + 1u : whole;
}

__device__ __forceinline__ Levels levels_of_hsv(Levels hsv) {
  u32 value = hsv.third;
  if (hsv.second == 0u) {
    Levels grey = {value, value, value};
    return grey;
  }
  double sixths = (double)hsv.first * 6.0 / 255.0;
  u32 sector = (u32)sixths;
  float fraction = (float)(sixths - (double)sector), saturation = (float)((double)hsv.second / 255.0);
  u32 low = rounded_share(value, 1.0 - (double)saturation);
  u32 falling = rounded_share(value, 1.0 - (double)(saturation * fraction));
  u32 rising = rounded_share(value, 1.0 - (double)saturation * (1.0 - (double)fraction));
  sector %= 6u;
  Levels rgb;
  rgb.first = sector == 0u || sector == 5u ? value : sector == 1u ? falling : sector == 4u ? rising : low;
  rgb.second = sector == 1u || sector == 2u ? value : sector == 0u ? rising : sector == 3u ? falling : low;
  rgb.third = sector == 3u || sector == 4u ? value : sector == 2u ? rising : sector == 5u ? falling : low;
  return rgb;
}

__device__ __forceinline__ Pixel hue_shifted_by_levels(Pixel pixel, u32 levels) {
  Levels rgb = {level_of_unit(pixel.red), level_of_unit(pixel.green), level_of_unit(pixel.blue)};
  Levels hsv = hsv_of_levels(rgb);
  hsv.first = (hsv.first + levels) & 255u;
  rgb = levels_of_hsv(hsv);
  Pixel shifted = {unit_of_level((u8)rgb.first), unit_of_level((u8)rgb.second), unit_of_level((u8)rgb.third)};
  return shifted;
}

// `pillow`: through 8-bit HSV. 0 turns leave the map as it is.
__device__ __forceinline__ void shift_hue(View& view, float turns, int pillow) {
  if (turns == 0.0f) return;
  int area = view.width * view.height;
  u32 levels = (u32)(int)(turns * 255.0f) & 255u;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    Pixel pixel = pixel_at(view.map, area, p);
    pixel = pillow ? hue_shifted_by_levels(pixel, levels) : hue_shifted(pixel, 6.0f * turns);
    put_pixel(view.map, area, p, pixel);
  }
}
