// NT-Xent of first views against their second ones and a bank of earlier ones, whose rows are padded as the views' are.

// Of every first view and one split of the bank: the largest similarity m and Σ exp((s − m)/T). Grid: row blocks × splits.
extern "C" __global__ void __launch_bounds__(128, 3)
bank_sums(float* maxima, float* sums, const float* unit, const float* bank, int size, int stride, int padded_rows,
          int padded_size, int split_tiles, float inverse_temperature) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  nt_xent_row_sums(maxima, sums, 0, unit, bank, size, stride, padded_rows, padded_size, split_tiles,
                   inverse_temperature, false, held);
}
KERNEL_EXPORT(bank_sums)

// With u = log Σ exp(s/T) over the bank − s(positive)/T the term softplus(u), the log of the denominator in two f32 that add up
// to it, and the bank's share of it. A warp a row, eight rows a block.
extern "C" __global__ void __launch_bounds__(256)
bank_anchors(double* anchor_losses, float* log_sums, float* log_sum_rests, float* bank_shares, const float* maxima,
             const float* sums, const float* unit, int n_images, int stride, int padded_rows, int splits,
             float inverse_temperature) {
  int row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (row >= n_images) {
    if (lane == 0) log_sums[row] = log_sum_rests[row] = bank_shares[row] = 0.0f;
    return;
  }
  const float* own = unit + (u64)row * stride;
  const float* other = unit + (u64)(row + n_images) * stride;
  double similarity = 0.0;
  for (int d = lane; d < stride; d += 32) similarity += (double)own[d] * (double)other[d];
  similarity = warp_sum_f64(similarity);
  if (lane) return;
  float maximum;
  double sum, scale = inverse_temperature;
  nt_xent_join_splits(&maximum, &sum, maxima, sums, row, padded_rows, splits, inverse_temperature);
  double excess = ((double)maximum - similarity) * scale + log(sum), term = nt_xent_softplus(excess);
  double log_sum = similarity * scale + term;
  anchor_losses[row] = term;
  log_sums[row] = (float)log_sum;
  log_sum_rests[row] = (float)(log_sum - (double)(float)log_sum);
  bank_shares[row] = (float)(1.0 / (1.0 + exp(-excess)));
}
KERNEL_EXPORT(bank_anchors)

// P(i,k) for the first views i of one panel and all rows k of the bank, 0 for the padding. Grid: column tiles × row blocks of the
// panel.
extern "C" __global__ void __launch_bounds__(128, 4)
bank_weights(float* weights, const float* unit, const float* bank, const float* log_sums, const float* log_sum_rests,
             int n_images, int size, int stride, int padded_size, int first_row, float inverse_temperature) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  int panel_row = blockIdx.y * 8 * blockDim.y, column = blockIdx.x * NT_XENT_COLUMNS;
  float tile[8][4];
  nt_xent_multiply(tile, unit + (u64)(first_row + panel_row) * stride, stride, bank + (u64)column * stride, stride, 0,
                   true, stride, held);
  panel_row += 8 * threadIdx.y;
  column += 4 * threadIdx.x;
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    int row = first_row + panel_row + r;
    float own = log_sums[row], own_rest = log_sum_rests[row], weight[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      weight[c] = exponential(fmaf(tile[r][c], inverse_temperature, -own) - own_rest);
      if (row >= n_images || column + c >= size) weight[c] = 0.0f;
    }
    float4 four = {weight[0], weight[1], weight[2], weight[3]};
    *(float4*)(weights + (u64)(panel_row + r) * padded_size + column) = four;
  }
}
KERNEL_EXPORT(bank_weights)

// (g − (g·z) z)/‖x‖ times `scale`, or g/1e-12 where the norm was raised to that constant, of a row as the lanes hold it in `to`.
__device__ __forceinline__ void bank_through_normalization(float* to, const float* z, double along, double norm,
                                                           double scale, int width, int lane) {
  double factor = scale / (norm < 1e-12 ? 1e-12 : norm);
  if (norm < 1e-12) along = 0.0;
  for (int d = lane; d < width; d += 32) to[d] = (float)(((double)to[d] - along * (double)z[d]) * factor);
}

// Of a first view g = Σ_k P(k) b_k, the splits' sums, − the bank's share · z′; of its second one −that share · z; through the
// normalisation. A warp a pair, four pairs a block.
extern "C" __global__ void __launch_bounds__(128)
bank_gradient(float* gradient, const float* partials, const float* unit, const double* norms, const float* bank_shares,
              int n_images, int width, int stride, int panel_rows, int first_row, int splits, double scale) {
  int panel_row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, row = first_row + panel_row;
  if (row >= n_images) return;
  int second = row + n_images;
  float* of_first = gradient + (u64)row * width;
  float* of_second = gradient + (u64)second * width;
  const float* z = unit + (u64)row * stride;
  const float* z_second = unit + (u64)second * stride;
  double share = bank_shares[row], along = 0.0, along_second = 0.0;
  for (int d = lane; d < width; d += 32) {
    float sum = 0.0f;
    for (int split = 0; split < splits; ++split) sum += partials[((u64)split * panel_rows + panel_row) * stride + d];
    of_first[d] = (float)((double)sum - share * (double)z_second[d]);
    of_second[d] = (float)(-share * (double)z[d]);
    along += (double)of_first[d] * (double)z[d];
    along_second += (double)of_second[d] * (double)z_second[d];
  }
  bank_through_normalization(of_first, z, warp_sum_f64(along), norms[row], scale, width, lane);
  bank_through_normalization(of_second, z_second, warp_sum_f64(along_second), norms[second], scale, width, lane);
}
KERNEL_EXPORT(bank_gradient)

// Puts the second views where the step writes: batch after batch, and from the start again where the next would not begin
// before the end; what does not fit before the end is left out. A warp a view, eight views a block.
extern "C" __global__ void __launch_bounds__(256)
bank_enqueue(float* bank, const float* unit, const u64* step, int n_images, int size, int stride) {
  int image = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  u64 n_places = ((u64)size + n_images - 1) / n_images;
  u64 place = *step % n_places * n_images + image;
  if (image >= n_images || place >= (u64)size) return;
  const float* from = unit + (u64)(n_images + image) * stride;
  for (int d = lane; d < stride; d += 32) bank[place * stride + d] = from[d];
}
KERNEL_EXPORT(bank_enqueue)
