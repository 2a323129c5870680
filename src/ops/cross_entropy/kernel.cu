// Cross entropy of logits and labels.

// The class of every image of a step: `order` names the examples of an epoch, `labels` the class of every example.
extern "C" __global__ void __launch_bounds__(256)
cross_entropy_labels(u32* of_batch, const u32* labels, const u32* order, const u64* step, u64 steps_per_epoch, int batch) {
  int image = blockIdx.x * 256 + threadIdx.x;
  if (image < batch) of_batch[image] = labels[order[*step % steps_per_epoch * (u64)batch + image]];
}
KERNEL_EXPORT(cross_entropy_labels)

// One view's term −Σ q log p, and its part of the gradient of the mean, (p − q)/n; view i is of image i mod n_images. What is not
// finite makes both NaN. A warp a view, four views a block; a lane reads no number of the gradient but its own.
extern "C" __global__ void __launch_bounds__(128)
cross_entropy_views(double* terms, float* gradient, const float* logits, const u32* labels, int n_views, int n_images,
                    int n_classes, double smoothing) {
  int view = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, is_wrong = 0;
  if (view >= n_views) return;
  const float* x = logits + (u64)view * n_classes;
  float* to = gradient + (u64)view * n_classes;
  float maximum = -3.4028234e38f;
  for (int c = lane; c < n_classes; c += 32) {
    if (!(x[c] - x[c] == 0.0f)) is_wrong = 1;
    if (x[c] > maximum) maximum = x[c];
  }
  for (int offset = 16; offset; offset >>= 1) {
    float other = __shfl_xor_sync(~0u, maximum, offset);
    is_wrong |= __shfl_xor_sync(~0u, is_wrong, offset);
    if (other > maximum) maximum = other;
  }
  if (is_wrong) {
    float nothing = __uint_as_float(0x7fc00000u);
    for (int c = lane; c < n_classes; c += 32) to[c] = nothing;
    if (lane == 0) terms[view] = (double)nothing;
    return;
  }
  double sum = 0.0, above = 0.0;
  for (int c = lane; c < n_classes; c += 32) {
    float share = exponential(x[c] - maximum);
    to[c] = share;
    sum += (double)share;
    above += (double)maximum - (double)x[c];
  }
  sum = warp_sum_f64(sum);
  above = warp_sum_f64(above);
  u32 label = labels[view % n_images];
  double smooth = smoothing / n_classes;
  for (int c = lane; c < n_classes; c += 32) {
    double target = (u32)c == label ? 1.0 - smoothing + smooth : smooth;
    to[c] = (float)(((double)to[c] / sum - target) / n_views);
  }
  if (lane == 0)
    terms[view] = log(sum) + (1.0 - smoothing) * ((double)maximum - (double)x[label]) + smoothing * (above / n_classes);
}
KERNEL_EXPORT(cross_entropy_views)
