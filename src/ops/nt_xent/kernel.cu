// NT-Xent and the metrics of a batch, tile by tile. Rows of unit vectors are padded with zeros: to 64 rows and to a stride
// of 16 numbers, so that tiles are always whole and every access to them is 16 bytes wide.
// A block has 16 × rows/8 threads and makes a tile of `rows` (32 or 64) × 64 numbers, 8 × 4 a thread.
#define NT_XENT_COLUMNS 64
#define NT_XENT_SLICE 16
// Numbers from one row of a slice to the next: a multiple of four that spreads the transposed stores over the banks.
#define NT_XENT_PITCH 68
// Two buffers, each a slice of the left and of the right operand.
#define NT_XENT_OPERAND (NT_XENT_SLICE * NT_XENT_PITCH)
#define NT_XENT_HELD (4 * NT_XENT_OPERAND)
// Below every similarity, of vectors of any length, and finite, so that differences of maxima stay numbers.
#define NT_XENT_LOWEST (-1e30f)

// One slice of `rows` rows whose 16 numbers lie side by side: chunk c is four numbers of row c / 4.
__device__ __forceinline__ float4 nt_xent_row_chunk(const float* from, int stride, int chunk) {
  return *(const float4*)(from + (u64)(chunk >> 2) * stride + 4 * (chunk & 3));
}
__device__ __forceinline__ void nt_xent_hold_row_chunk(float* held, int chunk, float4 value) {
  float* to = held + 4 * (chunk & 3) * NT_XENT_PITCH + (chunk >> 2);
  to[0] = value.x;
  to[NT_XENT_PITCH] = value.y;
  to[2 * NT_XENT_PITCH] = value.z;
  to[3 * NT_XENT_PITCH] = value.w;
}

__device__ __forceinline__ void nt_xent_multiply_slice(float (*tile)[4], const float* left, const float* right) {
  left += 8 * threadIdx.y;
  right += 4 * threadIdx.x;
#pragma unroll
  for (int k = 0; k < NT_XENT_SLICE; ++k) {
    float4 a0 = *(const float4*)(left + k * NT_XENT_PITCH), a1 = *(const float4*)(left + k * NT_XENT_PITCH + 4);
    float4 b = *(const float4*)(right + k * NT_XENT_PITCH);
    float rows[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      tile[r][0] = fmaf(rows[r], b.x, tile[r][0]);
      tile[r][1] = fmaf(rows[r], b.y, tile[r][1]);
      tile[r][2] = fmaf(rows[r], b.z, tile[r][2]);
      tile[r][3] = fmaf(rows[r], b.w, tile[r][3]);
    }
  }
}

// tile = left · right over `depth`, a multiple of 16. The left operand's rows lie along the depth. The right one's do too
// where `right_is_rows` (64 rows of it); else it is depth × columns, of which `right_columns`, a multiple of four, exist.
__device__ __forceinline__ void nt_xent_multiply(float (*tile)[4], const float* left, int left_stride,
                                                 const float* right, int right_stride, int right_columns,
                                                 bool right_is_rows, int depth, float* held) {
  int thread = threadIdx.x + 16 * threadIdx.y, threads = 16 * blockDim.y;
  float4 zero = {0.0f, 0.0f, 0.0f, 0.0f}, next_left[2], next_right[4];
#pragma unroll
  for (int r = 0; r < 8; ++r)
#pragma unroll
    for (int c = 0; c < 4; ++c) tile[r][c] = 0.0f;
  // The buffers may still be read for the tile before.
  __syncthreads();
  // Step -1 only fetches; afterwards a slice is on its way while the one before is multiplied.
  for (int k = -NT_XENT_SLICE, buffer = 0; k < depth; k += NT_XENT_SLICE) {
    float* held_left = held + 2 * NT_XENT_OPERAND * buffer;
    float* held_right = held_left + NT_XENT_OPERAND;
    if (k >= 0) {
#pragma unroll
      for (int i = 0; i < 2; ++i) nt_xent_hold_row_chunk(held_left, thread + i * threads, next_left[i]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int chunk = thread + i * threads;
        if (chunk >= 256) continue;
        if (right_is_rows) nt_xent_hold_row_chunk(held_right, chunk, next_right[i]);
        else *(float4*)(held_right + (chunk >> 4) * NT_XENT_PITCH + 4 * (chunk & 15)) = next_right[i];
      }
      __syncthreads();
    }
    int next = k + NT_XENT_SLICE;
    if (next < depth) {
#pragma unroll
      for (int i = 0; i < 2; ++i) next_left[i] = nt_xent_row_chunk(left + next, left_stride, thread + i * threads);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        int chunk = thread + i * threads;
        if (chunk >= 256) continue;
        if (right_is_rows) next_right[i] = nt_xent_row_chunk(right + next, right_stride, chunk);
        else if (4 * (chunk & 15) < right_columns)
          next_right[i] = *(const float4*)(right + (u64)(next + (chunk >> 4)) * right_stride + 4 * (chunk & 15));
        else next_right[i] = zero;
      }
    }
    if (k >= 0) {
      nt_xent_multiply_slice(tile, held_left, held_right);
      buffer ^= 1;
    }
  }
}

__device__ __forceinline__ int nt_xent_positive(int view, int n_views) {
  int half = n_views / 2;
  return view < half ? view + half : view - half;
}

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
      float largest = maximum[r];
      bool counts[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        int view = column + 4 * threadIdx.x + c;
        if (view == positive) positives[row + r] = tile[r][c];
        counts[c] = view < n_views && view != row + r && view != positive;
        if (counts[c] && tile[r][c] > largest) largest = tile[r][c];
      }
      float added = 0.0f;
#pragma unroll
      for (int c = 0; c < 4; ++c)
        if (counts[c]) added += exponential((tile[r][c] - largest) * inverse_temperature);
      sum[r] = fmaf(sum[r], exponential((maximum[r] - largest) * inverse_temperature), added);
      maximum[r] = largest;
    }
  }
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    // Each exchange adds the same two numbers in both lanes.
    for (int offset = 8; offset; offset >>= 1) {
      float other_maximum = __shfl_xor_sync(~0u, maximum[r], offset), other_sum = __shfl_xor_sync(~0u, sum[r], offset);
      float largest = other_maximum > maximum[r] ? other_maximum : maximum[r];
      float own = sum[r] * exponential((maximum[r] - largest) * inverse_temperature);
      float other = other_sum * exponential((other_maximum - largest) * inverse_temperature);
      sum[r] = own + other;
      maximum[r] = largest;
    }
    if (threadIdx.x == 0) {
      maxima[(u64)blockIdx.y * padded_views + row + r] = maximum[r];
      sums[(u64)blockIdx.y * padded_views + row + r] = sum[r];
    }
  }
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
  float maximum = NT_XENT_LOWEST;
  for (int split = 0; split < splits; ++split) {
    float other = maxima[(u64)split * padded_views + row];
    if (other > maximum) maximum = other;
  }
  double sum = 0.0;
  for (int split = 0; split < splits; ++split) {
    u64 place = (u64)split * padded_views + row;
    sum += (double)sums[place] * (double)exponential((maxima[place] - maximum) * inverse_temperature);
  }
  double positive = positives[row], scale = inverse_temperature;
  double excess = ((double)maximum - positive) * scale + log(sum);
  double loss = excess > 0.0 ? excess + log1p(exp(-excess)) : log1p(exp(excess));
  double log_sum = positive * scale + loss;
  anchor_losses[row] = loss;
  log_sums[row] = (float)log_sum;
  log_sum_rests[row] = (float)(log_sum - (double)(float)log_sum);
  rest_shares[row] = (float)(1.0 / (1.0 + exp(-excess)));
}
KERNEL_EXPORT(nt_xent_anchors)

// The sum over 256 threads by halves; valid in thread 0.
__device__ __forceinline__ double nt_xent_block_sum(double value, double* held) {
  __syncthreads();
  held[threadIdx.x] = value;
  for (u32 half = 128; half; half >>= 1) {
    __syncthreads();
    if (threadIdx.x < half) held[threadIdx.x] += held[threadIdx.x + half];
  }
  return held[0];
}

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
