// Values at or above the threshold become 1 − value. Parameters: threshold.

__device__ __forceinline__ float solarized(float value, float threshold) {
  return value >= threshold ? 1.0f - value : value;
}

__device__ __forceinline__ void solarize(View& view, float threshold) {
  int area = view.width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    Pixel pixel = pixel_at(view.map, area, p);
    pixel = {solarized(pixel.red, threshold), solarized(pixel.green, threshold), solarized(pixel.blue, threshold)};
    put_pixel(view.map, area, p, pixel);
  }
}
