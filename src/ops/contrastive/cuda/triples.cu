// NT-Logistic and the margin triplet: triples of an anchor, its positive and a view of another image that the anchor's view
// is not of.

__device__ __forceinline__ bool triples_is_negative(int row, int view, int n_views) {
  int half = n_views / 2;
  return row < n_views && view < n_views && (row < half) != (view < half) && view != nt_xent_positive(row, n_views);
}

// s(i,v) − s(i,p(i)) + m.
__device__ __forceinline__ double triples_within(float similarity, float positive, double margin) {
  return (double)similarity - (double)positive + margin;
}

// s(i,p(i)) by the very chain of a tile, so that an equal negative is equally similar. A thread a row.
extern "C" __global__ void __launch_bounds__(128)
triples_positives(float* positives, const float* unit, int n_views, int stride, int padded_views) {
  int row = blockIdx.x * 128 + threadIdx.x;
  if (row >= padded_views) return;
  float sum = 0.0f;
  if (row < n_views) {
    const float* own = unit + (u64)row * stride;
    const float* other = unit + (u64)nt_xent_positive(row, n_views) * stride;
    for (int d = 0; d < stride; d += 4) {
      float4 a = *(const float4*)(own + d), b = *(const float4*)(other + d);
      sum = fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
    }
  }
  positives[row] = sum;
}
KERNEL_EXPORT(triples_positives)

// Of every row and one split: Σ ln(1 + exp(s/T)) over its negatives, as Σ max(s/T, 0) + ln Π (1 + exp(−|s|/T)); a split has
// fewer factors than f64 holds. Grid: row blocks × splits.
extern "C" __global__ void __launch_bounds__(128, 2)
triples_softplus(double* sums, const float* unit, int n_views, int stride, int padded_views, int split_tiles,
                 float inverse_temperature) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  int first_row = blockIdx.x * 8 * blockDim.y, row = first_row + 8 * threadIdx.y;
  float tile[8][4];
  double sum[8], product[8];
#pragma unroll
  for (int r = 0; r < 8; ++r) { sum[r] = 0.0; product[r] = 1.0; }
  int end = (blockIdx.y + 1) * split_tiles * NT_XENT_COLUMNS;
  if (end > padded_views) end = padded_views;
  for (int column = blockIdx.y * split_tiles * NT_XENT_COLUMNS; column < end; column += NT_XENT_COLUMNS) {
    nt_xent_multiply(tile, unit + (u64)first_row * stride, stride, unit + (u64)column * stride, stride, 0, true, stride,
                     held);
#pragma unroll
    for (int r = 0; r < 8; ++r)
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        if (!triples_is_negative(row + r, column + 4 * threadIdx.x + c, n_views)) continue;
        float logit = tile[r][c] * inverse_temperature;
        if (logit > 0.0f) sum[r] += (double)logit;
        product[r] *= 1.0 + (double)exponential(logit > 0.0f ? -logit : logit);
      }
  }
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    double all = sum[r] + log(product[r]);
    for (int offset = 8; offset; offset >>= 1) all += __shfl_xor_sync(~0u, all, offset);
    if (threadIdx.x == 0) sums[(u64)blockIdx.y * padded_views + row + r] = all;
  }
}
KERNEL_EXPORT(triples_softplus)

// Of every row and one split: Σ max(s(i,v) − s(i,p(i)) + m, 0) over its negatives, and how many are above 0.
extern "C" __global__ void __launch_bounds__(128, 3)
triples_margins(double* sums, int* counts, const float* unit, const float* positives, int n_views, int stride,
                int padded_views, int split_tiles, double margin) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  int first_row = blockIdx.x * 8 * blockDim.y, row = first_row + 8 * threadIdx.y, count[8];
  float tile[8][4];
  double sum[8];
#pragma unroll
  for (int r = 0; r < 8; ++r) { sum[r] = 0.0; count[r] = 0; }
  int end = (blockIdx.y + 1) * split_tiles * NT_XENT_COLUMNS;
  if (end > padded_views) end = padded_views;
  for (int column = blockIdx.y * split_tiles * NT_XENT_COLUMNS; column < end; column += NT_XENT_COLUMNS) {
    nt_xent_multiply(tile, unit + (u64)first_row * stride, stride, unit + (u64)column * stride, stride, 0, true, stride,
                     held);
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      float positive = positives[row + r];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        double within = triples_within(tile[r][c], positive, margin);
        if (!triples_is_negative(row + r, column + 4 * threadIdx.x + c, n_views) || !(within > 0.0)) continue;
        sum[r] += within;
        ++count[r];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    for (int offset = 8; offset; offset >>= 1) {
      sum[r] += __shfl_xor_sync(~0u, sum[r], offset);
      count[r] += __shfl_xor_sync(~0u, count[r], offset);
    }
    if (threadIdx.x == 0) {
      sums[(u64)blockIdx.y * padded_views + row + r] = sum[r];
      counts[(u64)blockIdx.y * padded_views + row + r] = count[r];
    }
  }
}
KERNEL_EXPORT(triples_margins)

// Of every row and one split: the most similar negative that is less similar than the positive by less than m, the first of
// equals, and its similarity; −1 where there is none.
extern "C" __global__ void __launch_bounds__(128, 3)
triples_choose(int* chosen, float* nearest, const float* unit, const float* positives, int n_views, int stride,
               int padded_views, int split_tiles, double margin) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  int first_row = blockIdx.x * 8 * blockDim.y, row = first_row + 8 * threadIdx.y, choice[8];
  float tile[8][4], best[8];
#pragma unroll
  for (int r = 0; r < 8; ++r) { choice[r] = -1; best[r] = NT_XENT_LOWEST; }
  int end = (blockIdx.y + 1) * split_tiles * NT_XENT_COLUMNS;
  if (end > padded_views) end = padded_views;
  for (int column = blockIdx.y * split_tiles * NT_XENT_COLUMNS; column < end; column += NT_XENT_COLUMNS) {
    nt_xent_multiply(tile, unit + (u64)first_row * stride, stride, unit + (u64)column * stride, stride, 0, true, stride,
                     held);
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      float positive = positives[row + r];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        int view = column + 4 * threadIdx.x + c;
        float similarity = tile[r][c];
        bool counts = triples_is_negative(row + r, view, n_views) && similarity < positive &&
                      triples_within(similarity, positive, margin) > 0.0;
        if (counts && similarity > best[r]) { choice[r] = view; best[r] = similarity; }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    for (int offset = 8; offset; offset >>= 1) {
      int other = __shfl_xor_sync(~0u, choice[r], offset);
      float other_best = __shfl_xor_sync(~0u, best[r], offset);
      if (other >= 0 && (choice[r] < 0 || other_best > best[r] || (other_best == best[r] && other < choice[r]))) {
        choice[r] = other;
        best[r] = other_best;
      }
    }
    if (threadIdx.x == 0) {
      chosen[(u64)blockIdx.y * padded_views + row + r] = choice[r];
      nearest[(u64)blockIdx.y * padded_views + row + r] = best[r];
    }
  }
}
KERNEL_EXPORT(triples_choose)

// No comparison says that a similarity is no number.
__device__ __forceinline__ double triples_term(double term, float positive) {
  float nothing = positive - positive;
  return nothing == 0.0f ? term : (double)nothing;
}
__device__ __forceinline__ double triples_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

// Over all triples: an anchor's term and −∂term/∂s(i,p(i)). `counts`: of the margin's, else none.
extern "C" __global__ void __launch_bounds__(128)
triples_anchors(double* anchor_losses, float* pulls, const double* sums, const int* counts, const float* positives,
                int n_views, int padded_views, int splits, float inverse_temperature) {
  int row = blockIdx.x * 128 + threadIdx.x, count = 0;
  if (row >= padded_views) return;
  if (row >= n_views) {
    pulls[row] = 0.0f;
    return;
  }
  double sum = 0.0, n = n_views / 2 - 1, scale = inverse_temperature;
  for (int split = 0; split < splits; ++split) {
    u64 place = (u64)split * padded_views + row;
    sum += sums[place];
    if (counts) count += counts[place];
  }
  double positive = (double)positives[row] * scale;
  double term = counts ? sum / n : nt_xent_softplus(-positive) + sum / n;
  anchor_losses[row] = triples_term(term, positives[row]);
  pulls[row] = (float)(counts ? count / n : scale * triples_sigmoid(-positive));
}
KERNEL_EXPORT(triples_anchors)

// Of the semi-hard negative v alone: an anchor's term, −∂term/∂s(i,p(i)) and ∂term/∂s(i,v); v joined of all splits.
extern "C" __global__ void __launch_bounds__(128)
triples_chosen_anchors(double* anchor_losses, float* pulls, float* pushes, int* views, const int* chosen,
                       const float* nearest, const float* positives, int n_views, int padded_views, int splits,
                       float inverse_temperature, double margin, int is_logistic) {
  int row = blockIdx.x * 128 + threadIdx.x, choice = -1;
  if (row >= padded_views) return;
  if (row >= n_views) {
    pulls[row] = pushes[row] = 0.0f;
    views[row] = -1;
    return;
  }
  float best = NT_XENT_LOWEST;
  for (int split = 0; split < splits; ++split) {
    u64 place = (u64)split * padded_views + row;
    if (chosen[place] >= 0 && nearest[place] > best) { choice = chosen[place]; best = nearest[place]; }
  }
  double scale = inverse_temperature, positive = (double)positives[row] * scale, negative = (double)best * scale;
  double term = 0.0, pull = 0.0, push = 0.0;
  if (is_logistic) {
    term = nt_xent_softplus(-positive);
    pull = scale * triples_sigmoid(-positive);
  }
  if (choice >= 0) {
    push = is_logistic ? scale * triples_sigmoid(negative) : 1.0;
    if (!is_logistic) pull = 1.0;
    term += is_logistic ? nt_xent_softplus(negative) : triples_within(best, positives[row], margin);
  }
  anchor_losses[row] = triples_term(term, positives[row]);
  pulls[row] = (float)pull;
  pushes[row] = (float)push;
  views[row] = choice;
}
KERNEL_EXPORT(triples_chosen_anchors)

// ∂term(i)/∂s(i,j) + ∂term(j)/∂s(i,j) for the rows i of one panel and all views j, over all triples. Grid: column tiles × row
// blocks of the panel.
extern "C" __global__ void __launch_bounds__(128, 4)
triples_weights(float* weights, const float* unit, const float* positives, const float* pulls, int n_views, int stride,
                int padded_views, int first_row, float inverse_temperature, double margin, int is_logistic) {
  __shared__ __align__(16) float held[NT_XENT_HELD];
  int panel_row = blockIdx.y * 8 * blockDim.y, column = blockIdx.x * NT_XENT_COLUMNS;
  float tile[8][4], n_negatives = n_views / 2 - 1;
  nt_xent_multiply(tile, unit + (u64)(first_row + panel_row) * stride, stride, unit + (u64)column * stride, stride, 0,
                   true, stride, held);
  panel_row += 8 * threadIdx.y;
  column += 4 * threadIdx.x;
#pragma unroll
  for (int r = 0; r < 8; ++r) {
    int row = first_row + panel_row + r;
    float weight[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      int view = column + c;
      weight[c] = 0.0f;
      if (triples_is_negative(row, view, n_views)) {
        float slope = 2.0f * inverse_temperature / (1.0f + exponential(-tile[r][c] * inverse_temperature));
        if (!is_logistic)
          slope = (triples_within(tile[r][c], positives[row], margin) > 0.0 ? 1.0f : 0.0f) +
                  (triples_within(tile[r][c], positives[view], margin) > 0.0 ? 1.0f : 0.0f);
        weight[c] = slope / n_negatives;
      } else if (row < n_views && view == nt_xent_positive(row, n_views)) {
        weight[c] = -(pulls[row] + pulls[view]);
      }
    }
    float4 four = {weight[0], weight[1], weight[2], weight[3]};
    *(float4*)(weights + (u64)(panel_row + r) * padded_views + column) = four;
  }
}
KERNEL_EXPORT(triples_weights)

// The same where an anchor has one negative at most.
extern "C" __global__ void __launch_bounds__(128)
triples_chosen_weights(float* weights, const int* views, const float* pushes, const float* pulls, int n_views,
                       int padded_views, int first_row) {
  int panel_row = 8 * (blockIdx.y * blockDim.y + threadIdx.y), column = blockIdx.x * NT_XENT_COLUMNS + 4 * threadIdx.x;
  for (int r = 0; r < 8; ++r) {
    int row = first_row + panel_row + r;
    float weight[4];
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      int view = column + c;
      weight[c] = 0.0f;
      if (views[row] == view) weight[c] += pushes[row];
      if (row < n_views && views[view] == row) weight[c] += pushes[view];
      if (row < n_views && view == nt_xent_positive(row, n_views)) weight[c] = -(pulls[row] + pulls[view]);
    }
    float4 four = {weight[0], weight[1], weight[2], weight[3]};
    *(float4*)(weights + (u64)(panel_row + r) * padded_views + column) = four;
  }
}
KERNEL_EXPORT(triples_chosen_weights)
