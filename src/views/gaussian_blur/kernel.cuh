// The blur. Variant 0: a true Gaussian, 1: Pillow's boxes. Parameters: standard deviation low, high, in pixels.

// The weights at distance 0 … radius, into `weights`, by one whole warp; whole = radius.
__device__ __forceinline__ void half_kernel(Drawn& drawn, float sigma, float* weights) {
  int radius = (int)ceilf(4.0f * sigma), lane = threadIdx.x & 31;
  radius = radius < 1 ? 1 : radius;
  drawn.whole[0] = radius;
  float scale = -0.5f / (sigma * sigma);
  for (int distance = lane; distance <= radius; distance += 32)
    weights[distance] = distance == 0 ? 1.0f : views_exp((float)(distance * distance) * scale);
  __syncwarp();
  float sum = 0.0f;
  for (int distance = 1; distance <= radius; ++distance) sum += weights[distance];
  sum = weights[0] + 2.0f * sum;
  __syncwarp();
  for (int distance = lane; distance <= radius; distance += 32) weights[distance] /= sum;
}

__device__ __forceinline__ Drawn gaussian_blur_draw(Stream& stream, const Operation& operation, float* weights) {
  Drawn drawn = {};
  drawn.applied = chance(stream, operation.p);
  if (!drawn.applied) return drawn;
  float sigma = uniform(stream, operation.parameters[0], operation.parameters[1]);
  if (operation.variant) extended_box_of_sigma(drawn, sigma);
  else if (sigma > 0.0f) half_kernel(drawn, sigma, weights);
  else drawn.applied = 0;
  return drawn;
}

// w₀ v[i] + Σ_d w_d (v[i − d] + v[i + d]) along one axis, edges replicated.
__device__ __forceinline__ void gaussian_pass(View& view, int radius, const float* weights, int vertical) {
  __syncthreads();
  int width = view.width, area = width * view.height;
  int length = vertical ? view.height : width, step = vertical ? width : 1;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    int place = vertical ? p / width : p % width, base = p - place * step;
    Pixel sum = pixel_at(view.map, area, p);
    sum = {weights[0] * sum.red, weights[0] * sum.green, weights[0] * sum.blue};
    for (int distance = 1; distance <= radius; ++distance) {
      float weight = weights[distance];
      Pixel before = pixel_at(view.map, area, base + clamped(place - distance, length) * step);
      Pixel after = pixel_at(view.map, area, base + clamped(place + distance, length) * step);
      sum.red += weight * (before.red + after.red);
      sum.green += weight * (before.green + after.green);
      sum.blue += weight * (before.blue + after.blue);
    }
    put_pixel(view.spare, area, p, sum);
  }
  change_places(view);
}

__device__ __forceinline__ void gaussian_blur(View& view, const Drawn& drawn, int boxes, const float* weights) {
  if (boxes) return extended_box_blur(view, drawn);
  for (int vertical = 0; vertical < 2; ++vertical) gaussian_pass(view, drawn.whole[0], weights, vertical);
}
