// Luminance, its mean, and the grey image.

__device__ __forceinline__ float luminance(Pixel pixel) {
  return 0.2989f * pixel.red + 0.587f * pixel.green + 0.114f * pixel.blue;
}

__device__ __forceinline__ void grayscale(View& view) {
  int area = view.width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    float grey = luminance(pixel_at(view.map, area, p));
    Pixel pixel = {grey, grey, grey};
    put_pixel(view.map, area, p, pixel);
  }
}

// Pixel i goes to partial sum i modulo 16, in order. Uses the spare.
__device__ __forceinline__ float mean_luminance(View& view) {
  __syncthreads();
  int area = view.width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) view.spare[p] = luminance(pixel_at(view.map, area, p));
  __syncthreads();
  if (threadIdx.x < 16) {
    float sum = 0.0f;
#pragma unroll 8
    for (int p = threadIdx.x; p < area; p += 16) sum += view.spare[p];
    view.lanes[threadIdx.x] = sum;
  }
  __syncthreads();
  float sum = 0.0f;
  for (int lane = 0; lane < 16; ++lane) sum += view.lanes[lane];
  return sum / (float)area;
}
