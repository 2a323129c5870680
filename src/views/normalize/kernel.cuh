// (v − mean) / std. Parameters: the means of red, green, blue, then their standard deviations.

__device__ __forceinline__ void normalize(View& view, const Operation& operation) {
  const float* q = operation.parameters;
  Pixel mean = {q[0], q[1], q[2]}, deviation = {q[3], q[4], q[5]};
  int area = view.width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    Pixel pixel = pixel_at(view.map, area, p);
    pixel = {(pixel.red - mean.red) / deviation.red, (pixel.green - mean.green) / deviation.green,
             (pixel.blue - mean.blue) / deviation.blue};
    put_pixel(view.map, area, p, pixel);
  }
}
