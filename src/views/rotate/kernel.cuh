// Rotations counter-clockwise. Parameters of the one by any angle: degrees low, high.

// The top row becomes the left column.
__device__ __forceinline__ void quarter_turn(View& view) {
  __syncthreads();
  int width = view.width, height = view.height, area = width * height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    int row = p / height, column = p % height;
    put_pixel(view.spare, area, p, pixel_at(view.map, area, column * width + width - 1 - row));
  }
  view.width = height;
  view.height = width;
  change_places(view);
}

// Sine and cosine of the angle: real = sine, cosine.
__device__ __forceinline__ Drawn rotate_draw(Stream& stream, const Operation& operation) {
  Drawn drawn = {};
  drawn.applied = chance(stream, operation.p);
  if (!drawn.applied) return drawn;
  float degrees = uniform(stream, operation.parameters[0], operation.parameters[1]);
  float quarters = rintf(degrees / 90.0f);
  float x = fmaf(quarters, -90.0f, degrees) * (3.14159265358979323846f / 180.0f);
  float square = x * x, sine = 1.0f / 362880.0f, cosine = 1.0f / 40320.0f;
  sine = fmaf(sine, square, -1.0f / 5040.0f);
  sine = fmaf(sine, square, 1.0f / 120.0f);
  sine = fmaf(sine, square, -1.0f / 6.0f);
  sine = x * fmaf(sine, square, 1.0f);
  cosine = fmaf(cosine, square, -1.0f / 720.0f);
  cosine = fmaf(cosine, square, 1.0f / 24.0f);
  cosine = fmaf(cosine, square, -0.5f);
  cosine = fmaf(cosine, square, 1.0f);
  int turn = (int)((long long)quarters & 3);
  drawn.real[0] = turn == 0 ? sine : turn == 1 ? cosine : turn == 2 ? -sine : -cosine;
  drawn.real[1] = turn == 0 ? cosine : turn == 1 ? -sine : turn == 2 ? -cosine : sine;
  return drawn;
}

// Nearest neighbour about the centre; what comes from outside is black.
__device__ __forceinline__ void rotate_by_angle(View& view, const Drawn& drawn) {
  __syncthreads();
  int width = view.width, height = view.height, area = width * height;
  float sine = drawn.real[0], cosine = drawn.real[1];
  float centre_x = ((float)width - 1.0f) * 0.5f, centre_y = ((float)height - 1.0f) * 0.5f;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    float x = (float)(p % width) - centre_x, y = (float)(p / width) - centre_y;
    float from_x = rintf(x * cosine - y * sine + centre_x), from_y = rintf(x * sine + y * cosine + centre_y);
    Pixel pixel = {0.0f, 0.0f, 0.0f};
    if (from_x >= 0.0f && from_x < (float)width && from_y >= 0.0f && from_y < (float)height)
      pixel = pixel_at(view.map, area, (int)from_y * width + (int)from_x);
    put_pixel(view.spare, area, p, pixel);
  }
  change_places(view);
}
