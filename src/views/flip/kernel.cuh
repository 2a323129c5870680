// Mirror images.

__device__ __forceinline__ void flip_horizontal(View& view) {
  __syncthreads();
  int width = view.width, area = width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x)
    put_pixel(view.spare, area, p, pixel_at(view.map, area, p + width - 1 - 2 * (p % width)));
  change_places(view);
}

__device__ __forceinline__ void flip_vertical(View& view) {
  __syncthreads();
  int width = view.width, area = width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x)
    put_pixel(view.spare, area, p, pixel_at(view.map, area, area - width - p + 2 * (p % width)));
  change_places(view);
}
