// The crop's draw, and the resize. Parameters: scale low, high; ratio low, high; their logarithms low, high. Variant: the filter.

enum Filter { BILINEAR = 0, BICUBIC = 1 };

// The window drawn: whole = top, left, height, width.
__device__ __forceinline__ Drawn crop_draw(Stream& stream, const Operation& operation, int width, int height) {
  const float* q = operation.parameters;
  Drawn drawn = {};
  drawn.applied = 1;
  float image_area = (float)((u64)width * (u64)height);
  for (int attempt = 0; attempt < 10; ++attempt) {
    float area = image_area * uniform(stream, q[0], q[1]);
    float ratio = views_exp(uniform(stream, q[4], q[5]));
    float crop_width = rintf(sqrtf(area * ratio)), crop_height = rintf(sqrtf(area / ratio));
    // Above 2³⁰ the sides do not fit an int, and no image is that wide.
    if (!(crop_width >= 1.0f && crop_width <= 1073741824.0f && crop_height >= 1.0f && crop_height <= 1073741824.0f))
      continue;
    int w = (int)crop_width, h = (int)crop_height;
    if (w > width || h > height) continue;
    drawn.whole[0] = below(stream, height - h + 1);
    drawn.whole[1] = below(stream, width - w + 1);
    drawn.whole[2] = h;
    drawn.whole[3] = w;
    return drawn;
  }
  float ratio = (float)width / (float)height;
  int w = width, h = height;
  if (ratio < q[2]) {
    float side = rintf((float)width / q[2]);
    h = side >= (float)height ? height : side >= 1.0f ? (int)side : 1;
  } else if (ratio > q[3]) {
    float side = rintf((float)height * q[3]);
    w = side >= (float)width ? width : side >= 1.0f ? (int)side : 1;
  }
  drawn.whole[0] = (height - h) / 2;
  drawn.whole[1] = (width - w) / 2;
  drawn.whole[2] = h;
  drawn.whole[3] = w;
  return drawn;
}

// Outputs `first .. first + side` of `length_in` inputs resampled to `length_out`, and the pixel the inputs begin at.
struct Axis {
  int length_in, length_out, first, origin;
};

// The taps of one axis: first input and number of inputs an output, then the weights, tap after tap.
struct Taps {
  int* starts;
  int* counts;
  float* weights;
};

__device__ __forceinline__ Taps taps_of(const View& view, int side, int axis) {
  float* from = view.taps + axis * side * (2 + view.reach);
  Taps taps = {(int*)from, (int*)from + side, from + 2 * side};
  return taps;
}

// What an input weighs at a distance in inputs: a triangle, or Keys' cubic with a = -1/2.
__device__ __forceinline__ float filter_weight(int filter, float distance) {
  if (filter == BILINEAR) return 1.0f - distance > 0.0f ? 1.0f - distance : 0.0f;
  if (distance < 1.0f) return (1.5f * distance - 2.5f) * distance * distance + 1.0f;
  if (distance < 2.0f) return (((distance - 5.0f) * distance + 8.0f) * distance - 4.0f) * -0.5f;
  return 0.0f;
}

// A cubic overshoots.
__device__ __forceinline__ Pixel clipped(int filter, Pixel pixel) {
  if (filter == BILINEAR) return pixel;
  Pixel within = {clamped_to_one(pixel.red), clamped_to_one(pixel.green), clamped_to_one(pixel.blue)};
  return within;
}

__device__ __forceinline__ void plan_output(Taps taps, Axis axis, int filter, int side, int output) {
  float scale = (float)axis.length_in / (float)axis.length_out, widening = scale > 1.0f ? scale : 1.0f;
  float support = filter == BILINEAR ? widening : 2.0f * widening;
  float centre = ((float)(axis.first + output) + 0.5f) * scale;
  float low = centre - support + 0.5f;
  int start = low > 0.0f ? (int)low : 0, end = (int)(centre + support + 0.5f);
  end = end < axis.length_in ? end : axis.length_in;
  start = start < end - 1 ? start : end - 1;
  float sum = 0.0f;
  for (int tap = 0; tap < end - start; ++tap) {
    float weight = filter_weight(filter, fabsf(((float)(start + tap) - centre + 0.5f) / widening));
    taps.weights[tap * side + output] = weight;
    sum += weight;
  }
  for (int tap = 0; tap < end - start; ++tap) taps.weights[tap * side + output] /= sum;
  taps.starts[output] = axis.origin + start;
  taps.counts[output] = end - start;
}

// Rows of the image (or, where there is none, of the map) along the horizontal taps, into the spare.
__device__ __forceinline__ void resize_rows(View& view, const Image* image, Axis vertical, int filter, int side) {
  Taps taps = taps_of(view, side, 0);
  int rows = vertical.length_in, area = rows * side, map_area = view.width * view.height;
  for (int item = threadIdx.x; item < area; item += blockDim.x) {
    int y = vertical.origin + item / side, x = item % side, start = taps.starts[x], count = taps.counts[x];
    Pixel sum = {0.0f, 0.0f, 0.0f};
    for (int tap = 0; tap < count; ++tap) {
      float weight = taps.weights[tap * side + x];
      Pixel pixel;
      if (image) {
        const u8* from = image->pixels + 3 * ((u64)y * image->width + start + tap);
        pixel = {unit_of_level(from[0]), unit_of_level(from[1]), unit_of_level(from[2])};
      } else {
        pixel = pixel_at(view.map, map_area, y * view.width + start + tap);
      }
      sum.red += pixel.red * weight;
      sum.green += pixel.green * weight;
      sum.blue += pixel.blue * weight;
    }
    put_pixel(view.spare, area, item, clipped(filter, sum));
  }
}

// side × side outputs of two axes of the image or of the map, into the map: along rows, then along columns.
__device__ __forceinline__ void resize(View& view, const Image* image, Axis horizontal, Axis vertical, int filter,
                                       int side) {
  __syncthreads();
  for (int output = threadIdx.x; output < 2 * side; output += blockDim.x) {
    int axis = output >= side;
    plan_output(taps_of(view, side, axis), axis ? vertical : horizontal, filter, side, output - axis * side);
  }
  __syncthreads();
  resize_rows(view, image, vertical, filter, side);
  __syncthreads();
  Taps taps = taps_of(view, side, 1);
  int area = side * side, rows_area = vertical.length_in * side;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    int y = p / side, x = p % side, start = taps.starts[y] - vertical.origin, count = taps.counts[y];
    Pixel sum = {0.0f, 0.0f, 0.0f};
    for (int tap = 0; tap < count; ++tap) {
      float weight = taps.weights[tap * side + y];
      Pixel pixel = pixel_at(view.spare, rows_area, (start + tap) * side + x);
      sum.red += pixel.red * weight;
      sum.green += pixel.green * weight;
      sum.blue += pixel.blue * weight;
    }
    put_pixel(view.map, area, p, clipped(filter, sum));
  }
  view.width = side;
  view.height = side;
}

__device__ __forceinline__ void crop(View& view, const Image* image, const Drawn& drawn, int filter, int side) {
  Axis horizontal = {drawn.whole[3], side, 0, drawn.whole[1]}, vertical = {drawn.whole[2], side, 0, drawn.whole[0]};
  resize(view, image, horizontal, vertical, filter, side);
}

// One axis of the shorter side brought to `side`, the longer in proportion, and of that the centre.
__device__ __forceinline__ Axis fitted_axis(int length, int shorter, int side) {
  int scaled = (int)((u64)side * (u64)length / (u64)shorter), half = (scaled - side) / 2;
  Axis axis = {length, scaled, half + (scaled - side) % 2 * (half % 2), 0};
  return axis;
}

__device__ __forceinline__ void load_fitted(View& view, Image image, int side) {
  if (image.width == side && image.height == side) return load_whole(view, image);
  int shorter = image.width < image.height ? image.width : image.height;
  resize(view, &image, fitted_axis(image.width, shorter, side), fitted_axis(image.height, shorter, side), BILINEAR,
         side);
}
