// DCL and DCLW: NT-Xent's sums and weights with other terms of the anchors between them.

// Of the N pairs: m, the largest s(i,p(i))/sigma, and N / Σ exp(s(i,p(i))/sigma − m). One block.
extern "C" __global__ void __launch_bounds__(256)
decoupled_spread(double* spread, const float* positives, int n_images, double sigma) {
  __shared__ double held[256];
  double maximum = NT_XENT_LOWEST, sum = 0.0;
  for (int image = threadIdx.x; image < n_images; image += 256) {
    double logit = (double)positives[image] / sigma;
    if (logit > maximum) maximum = logit;
  }
  held[threadIdx.x] = maximum;
  for (u32 half = 128; half; half >>= 1) {
    __syncthreads();
    if (threadIdx.x < half && held[threadIdx.x + half] > held[threadIdx.x]) held[threadIdx.x] = held[threadIdx.x + half];
  }
  __syncthreads();
  maximum = held[0];
  for (int image = threadIdx.x; image < n_images; image += 256) sum += exp((double)positives[image] / sigma - maximum);
  sum = nt_xent_block_sum(sum, held);
  if (threadIdx.x) return;
  spread[0] = maximum;
  spread[1] = n_images / sum;
}
KERNEL_EXPORT(decoupled_spread)

// log Σ exp(s/T) over the others − w·s(positive)/T; that log-sum in two f32 that add up to it; w, by which the positive is
// pulled: 1, or where there is a `spread` 2 less the pair's share of the likelihood.
extern "C" __global__ void __launch_bounds__(128)
decoupled_anchors(double* anchor_losses, float* log_sums, float* log_sum_rests, float* pulls, const float* maxima,
                  const float* sums, const float* positives, const double* spread, int n_views, int padded_views,
                  int splits, float inverse_temperature, double sigma) {
  int row = blockIdx.x * 128 + threadIdx.x;
  if (row >= padded_views) return;
  if (row >= n_views) {
    log_sums[row] = log_sum_rests[row] = pulls[row] = 0.0f;
    return;
  }
  float maximum;
  double sum, positive = positives[row], scale = inverse_temperature, weight = 1.0;
  nt_xent_join_splits(&maximum, &sum, maxima, sums, row, padded_views, splits, inverse_temperature);
  double log_sum = (double)maximum * scale + log(sum);
  if (spread) weight = 2.0 - spread[1] * exp(positive / sigma - spread[0]);
  anchor_losses[row] = log_sum - weight * positive * scale;
  log_sums[row] = (float)log_sum;
  log_sum_rests[row] = (float)(log_sum - (double)(float)log_sum);
  pulls[row] = (float)weight;
}
KERNEL_EXPORT(decoupled_anchors)
