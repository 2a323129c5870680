// NT-Xent and the metrics of a batch, tile by tile.

// z = x / max(‖x‖, 1e-12), or where nothing `is_normalized` z = x, which a norm of -1 says; a warp a row, eight rows a block.
// The sum is f64 so that neither 1e-30 nor 1e30 is lost; it is one operation a number where the tiles take n_views of them.
extern "C" __global__ void __launch_bounds__(256)
nt_xent_normalize(float* unit, double* norms, const float* projections, int n_views, int width, int stride,
                  int is_normalized) {
  int row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  float* to = unit + (u64)row * stride;
  if (row >= n_views) {
    for (int d = lane; d < stride; d += 32) to[d] = 0.0f;
    return;
  }
  const float* from = projections + (u64)row * width;
  if (!is_normalized) {
    for (int d = lane; d < stride; d += 32) to[d] = d < width ? from[d] : 0.0f;
    if (lane == 0) norms[row] = -1.0;
    return;
  }
  double sum = 0.0;
  for (int d = lane; d < width; d += 32) sum += (double)from[d] * (double)from[d];
  double norm = sqrt(warp_sum_f64(sum));
  double factor = 1.0 / (norm < 1e-12 ? 1e-12 : norm);
  for (int d = lane; d < stride; d += 32) to[d] = d < width ? (float)((double)from[d] * factor) : 0.0f;
  if (lane == 0) norms[row] = norm;
}
KERNEL_EXPORT(nt_xent_normalize)

// Of every row and one split of the columns: the largest similarity m to a view that is neither the row itself nor its
// positive, and Σ exp((s − m)/T) over those views. Grid: row blocks × splits.
extern "C" __global__ void __launch_bounds__(128, 3)
nt_xent_sums(float* maxima, float* sums, float* positives, const float* unit, int n_views, int stride, int padded_views,
             int split_tiles, float inverse_temperature) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  nt_xent_row_sums(maxima, sums, positives, unit, unit, n_views, stride, padded_views, padded_views, split_tiles,
                   inverse_temperature, true, held);
}
KERNEL_EXPORT(nt_xent_sums)

// What the splits say together: with u = log Σ exp(s/T) over the others − s(positive)/T, the anchor's loss softplus(u), its
// log-sum over all but itself in two f32 that add up to it, and the share of the denominator that is not the positive's.
extern "C" __global__ void __launch_bounds__(128)
nt_xent_anchors(double* anchor_losses, float* log_sums, float* log_sum_rests, float* rest_shares, const float* maxima,
                const float* sums, const float* positives, int n_views, int padded_views, int splits,
                float inverse_temperature) {
  int row = blockIdx.x * 128 + threadIdx.x;
  if (row >= padded_views) return;
  if (row >= n_views) {
    log_sums[row] = log_sum_rests[row] = rest_shares[row] = 0.0f;
    return;
  }
  float maximum;
  double sum;
  nt_xent_join_splits(&maximum, &sum, maxima, sums, row, padded_views, splits, inverse_temperature);
  double positive = positives[row], scale = inverse_temperature;
  double excess = ((double)maximum - positive) * scale + log(sum);
  double loss = nt_xent_softplus(excess);
  double log_sum = positive * scale + loss;
  anchor_losses[row] = loss;
  log_sums[row] = (float)log_sum;
  log_sum_rests[row] = (float)(log_sum - (double)(float)log_sum);
  rest_shares[row] = (float)(1.0 / (1.0 + exp(-excess)));
}
KERNEL_EXPORT(nt_xent_anchors)

// The mean loss times `scale`, into the ring of losses. One block.
extern "C" __global__ void __launch_bounds__(256)
nt_xent_mean(float* losses, int losses_len, const u64* step, const double* anchor_losses, int n_views, double scale) {
  __shared__ double held[256];
  double sum = 0.0;
  for (int row = threadIdx.x; row < n_views; row += 256) sum += anchor_losses[row];
  sum = nt_xent_block_sum(sum, held);
  if (threadIdx.x == 0) losses[*step % (u64)losses_len] = (float)(sum / n_views * scale);
}
KERNEL_EXPORT(nt_xent_mean)

// P(i,j) + P(j,i) for the rows i of one panel and all views j; for the positive that less 2, for i itself and the padding 0.
// Grid: column tiles × row blocks of the panel.
extern "C" __global__ void __launch_bounds__(128, 4)
nt_xent_weights(float* weights, const float* unit, const float* log_sums, const float* log_sum_rests,
                const float* rest_shares, int n_views, int stride, int padded_views, int first_row,
                float inverse_temperature) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  int panel_row = blockIdx.y * 8 * blockDim.y, column = blockIdx.x * NT_XENT_COLUMNS;
  float tile[8][4];
  nt_xent_multiply(tile, unit + (u64)(first_row + panel_row) * stride, stride, unit + (u64)column * stride, stride, 0,
                   true, stride, held);
  panel_row += 8 * threadIdx.y;
  column += 4 * threadIdx.x;
  float4 others = *(const float4*)(log_sums + column), other_rests = *(const float4*)(log_sum_rests + column);
  float other[4] = {others.x, others.y, others.z, others.w};
  float other_rest[4] = {other_rests.x, other_rests.y, other_rests.z, other_rests.w};
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    int row = first_row + panel_row + r, positive = nt_xent_positive(row, n_views);
    float own = log_sums[row], own_rest = log_sum_rests[row], weight[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      int view = column + c;
      float from_own = fmaf(tile[r][c], inverse_temperature, -own) - own_rest;
      float from_other = fmaf(tile[r][c], inverse_temperature, -other[c]) - other_rest[c];
      weight[c] = exponential(from_own) + exponential(from_other);
      if (view == positive) weight[c] = -(rest_shares[row] + rest_shares[view]);
      if (view == row || view >= n_views) weight[c] = 0.0f;
    }
    float4 four = {weight[0], weight[1], weight[2], weight[3]};
    *(float4*)(weights + (u64)(panel_row + r) * padded_views + column) = four;
  }
}
KERNEL_EXPORT(nt_xent_weights)

// Σ weight(i,j) z_j over one split of the views j. Grid: tiles of 64 numbers of the width × row blocks of the panel × splits.
extern "C" __global__ void __launch_bounds__(128, 4)
nt_xent_products(float* partials, const float* weights, const float* unit, int stride, int padded_views, int panel_rows,
                 int split_tiles) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  int row = blockIdx.y * 8 * blockDim.y, column = blockIdx.x * NT_XENT_COLUMNS;
  int first = blockIdx.z * split_tiles * NT_XENT_COLUMNS, depth = split_tiles * NT_XENT_COLUMNS;
  if (depth > padded_views - first) depth = padded_views - first;
  float tile[8][4];
  nt_xent_multiply(tile, weights + (u64)row * padded_views + first, padded_views, unit + (u64)first * stride + column,
                   stride, stride - column, false, depth, held);
  row += 8 * threadIdx.y;
  column += 4 * threadIdx.x;
  if (column >= stride) return;
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    float4 four = {tile[r][0], tile[r][1], tile[r][2], tile[r][3]};
    *(float4*)(partials + ((u64)blockIdx.z * panel_rows + row + r) * stride + column) = four;
  }
}
KERNEL_EXPORT(nt_xent_products)

// g = the splits' sums, of which `scale` makes dL/dz, through the normalisation: (g − (g·z) z)/‖x‖, or g/1e-12 where the
// norm was raised to that constant; g alone where x was not normalised. A warp a row of the panel, four rows a block.
extern "C" __global__ void __launch_bounds__(128)
nt_xent_gradient(float* gradient, const float* partials, const float* unit, const double* norms, int n_views, int width,
                 int stride, int panel_rows, int first_row, int splits, double scale) {
  int panel_row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32, row = first_row + panel_row;
  if (row >= n_views) return;
  float* to = gradient + (u64)row * width;
  const float* z = unit + (u64)row * stride;
  double along = 0.0;
  for (int d = lane; d < width; d += 32) {
    float sum = 0.0f;
    for (int split = 0; split < splits; ++split) sum += partials[((u64)split * panel_rows + panel_row) * stride + d];
    to[d] = sum;
    along += (double)sum * (double)z[d];
  }
  along = warp_sum_f64(along);
  double norm = norms[row], factor = scale / (norm < 1e-12 ? 1e-12 : norm);
  if (norm < 1e-12) along = 0.0;
  if (norm < 0.0) factor = scale;
  for (int d = lane; d < width; d += 32) to[d] = (float)(((double)to[d] - along * (double)z[d]) * factor);
}
KERNEL_EXPORT(nt_xent_gradient)

// ‖z‖² of every row (0 for the padding), and ‖z − z′‖² of every first view. A warp a row, eight rows a block.
extern "C" __global__ void __launch_bounds__(256)
nt_xent_squares(float* squares, float* distances, const float* unit, int n_views, int stride) {
  int row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
  const float* own = unit + (u64)row * stride;
  bool has_other = row < n_views / 2;
  const float* other = has_other ? own + (u64)(n_views / 2) * stride : own;
  double square = 0.0, distance = 0.0;
  for (int d = lane; d < stride; d += 32) {
    double z = own[d], difference = z - (double)other[d];
    square += z * z;
    distance += difference * difference;
  }
  square = warp_sum_f64(square);
  distance = warp_sum_f64(distance);
  if (lane) return;
  squares[row] = (float)square;
  if (has_other) distances[row] = (float)distance;
}
KERNEL_EXPORT(nt_xent_squares)

// Of every row and one split: Σ exp(−2‖z_i − z_j‖²) over j ≠ i, and the largest similarity to a view that is neither i nor
// its positive. Grid: row blocks × splits.
extern "C" __global__ void __launch_bounds__(128, 4)
nt_xent_neighbours(float* maxima, float* sums, float* positives, const float* unit, const float* squares, int n_views,
                   int stride, int padded_views, int split_tiles) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  int first_row = blockIdx.x * 8 * blockDim.y, row = first_row + 8 * threadIdx.y;
  float maximum[8], sum[8], tile[8][4];
#pragma unroll
  for (int r = 0; r < 8; ++r) { maximum[r] = NT_XENT_LOWEST; sum[r] = 0.0f; }
  int end = (blockIdx.y + 1) * split_tiles * NT_XENT_COLUMNS;
  if (end > padded_views) end = padded_views;
  for (int column = blockIdx.y * split_tiles * NT_XENT_COLUMNS; column < end; column += NT_XENT_COLUMNS) {
    nt_xent_multiply(tile, unit + (u64)first_row * stride, stride, unit + (u64)column * stride, stride, 0, true, stride,
                     held);
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      int positive = nt_xent_positive(row + r, n_views);
      float added = 0.0f;
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        int view = column + 4 * threadIdx.x + c;
        if (view >= n_views || view == row + r) continue;
        if (view == positive) positives[row + r] = tile[r][c];
        else if (tile[r][c] > maximum[r]) maximum[r] = tile[r][c];
        added += exponential(fmaf(4.0f, tile[r][c], -2.0f * (squares[row + r] + squares[view])));
      }
      sum[r] += added;
    }
  }
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    for (int offset = 8; offset; offset >>= 1) {
      float other = __shfl_xor_sync(~0u, maximum[r], offset);
      sum[r] += __shfl_xor_sync(~0u, sum[r], offset);
      if (other > maximum[r]) maximum[r] = other;
    }
    if (threadIdx.x == 0) {
      maxima[(u64)blockIdx.y * padded_views + row + r] = maximum[r];
      sums[(u64)blockIdx.y * padded_views + row + r] = sum[r];
    }
  }
}
KERNEL_EXPORT(nt_xent_neighbours)

// Alignment, uniformity and the share of anchors whose positive is nearer than every other view. One block.
extern "C" __global__ void __launch_bounds__(256)
nt_xent_metrics(double* metrics, const float* maxima, const float* sums, const float* positives, const float* distances,
                int n_views, int padded_views, int splits) {
  __shared__ double held[256];
  double kernel_sum = 0.0, n_right = 0.0, distance = 0.0;
  for (int row = threadIdx.x; row < n_views; row += 256) {
    float maximum = NT_XENT_LOWEST;
    for (int split = 0; split < splits; ++split) {
      float other = maxima[(u64)split * padded_views + row];
      if (other > maximum) maximum = other;
      kernel_sum += (double)sums[(u64)split * padded_views + row];
    }
    if (positives[row] > maximum) n_right += 1.0;
    if (row < n_views / 2) distance += (double)distances[row];
  }
  kernel_sum = nt_xent_block_sum(kernel_sum, held);
  n_right = nt_xent_block_sum(n_right, held);
  distance = nt_xent_block_sum(distance, held);
  if (threadIdx.x) return;
  metrics[0] = distance / (n_views / 2);
  metrics[1] = log(kernel_sum / ((double)n_views * (n_views - 1)));
  metrics[2] = n_right / n_views;
}
KERNEL_EXPORT(nt_xent_metrics)
