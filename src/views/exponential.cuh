// exp, the same bits as views::exponential.
__device__ __forceinline__ float power_of_two(int n) { return __uint_as_float((u32)(n + 127) << 23); }

__device__ __forceinline__ float views_exp(float x) {
  if (x != x) return x;
  if (x > 89.0f) return __uint_as_float(0x7f800000u);
  if (x < -104.0f) return 0.0f;
  float n = rintf(x * 1.44269504088896340736f);
  float r = fmaf(-n, -2.1219444e-4f, fmaf(-n, 355.0f / 512.0f, x));
  float polynomial = 1.0f / 5040.0f;
  polynomial = fmaf(polynomial, r, 1.0f / 720.0f);
  polynomial = fmaf(polynomial, r, 1.0f / 120.0f);
  polynomial = fmaf(polynomial, r, 1.0f / 24.0f);
  polynomial = fmaf(polynomial, r, 1.0f / 6.0f);
  polynomial = fmaf(polynomial, r, 0.5f);
  polynomial = fmaf(polynomial, r, 1.0f);
  polynomial = fmaf(polynomial, r, 1.0f);
  int whole = (int)n, half = whole / 2;
  return polynomial * power_of_two(half) * power_of_two(whole - half);
}
