// Products of rows of vectors, tile by tile. Rows are padded with zeros: to 64 rows and to a stride of 16 numbers, so that
// tiles are always whole and every access to them is 16 bytes wide. Every number of a tile is the same chain of fused
// multiply-adds from the first number of the rows to the last, so that equal vectors are equally similar to the bit.
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

// Of every left row and one split of the right ones: the largest similarity m and Σ exp((s − m)/T). Where `are_views`
// the two sides are the same views: neither the row itself nor its positive counts, whose similarity is written.
__device__ __forceinline__ void nt_xent_row_sums(float* maxima, float* sums, float* positives, const float* left,
                                                 const float* right, int n_right, int stride, int padded_left,
                                                 int padded_right, int split_tiles, float inverse_temperature,
                                                 bool are_views, float* held) {
  int first_row = blockIdx.x * 8 * blockDim.y, row = first_row + 8 * threadIdx.y;
  float maximum[8], sum[8], tile[8][4];
#pragma unroll
  for (int r = 0; r < 8; ++r) { maximum[r] = NT_XENT_LOWEST; sum[r] = 0.0f; }
  int end = (blockIdx.y + 1) * split_tiles * NT_XENT_COLUMNS;
  if (end > padded_right) end = padded_right;
  for (int column = blockIdx.y * split_tiles * NT_XENT_COLUMNS; column < end; column += NT_XENT_COLUMNS) {
    nt_xent_multiply(tile, left + (u64)first_row * stride, stride, right + (u64)column * stride, stride, 0, true, stride,
                     held);
#pragma unroll
    for (int r = 0; r < 8; ++r) {
      int own = are_views ? row + r : -1, positive = are_views ? nt_xent_positive(row + r, n_right) : -1;
      float largest = maximum[r];
      bool counts[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        int view = column + 4 * threadIdx.x + c;
        if (view == positive) positives[row + r] = tile[r][c];
        counts[c] = view < n_right && view != own && view != positive;
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
      maxima[(u64)blockIdx.y * padded_left + row + r] = maximum[r];
      sums[(u64)blockIdx.y * padded_left + row + r] = sum[r];
    }
  }
}

// What the splits of a row say together: the largest similarity m and Σ exp((s − m)/T).
__device__ __forceinline__ void nt_xent_join_splits(float* maximum, double* sum, const float* maxima, const float* sums,
                                                    int row, int padded_views, int splits, float inverse_temperature) {
  *maximum = NT_XENT_LOWEST;
  *sum = 0.0;
  for (int split = 0; split < splits; ++split) {
    float other = maxima[(u64)split * padded_views + row];
    if (other > *maximum) *maximum = other;
  }
  for (int split = 0; split < splits; ++split) {
    u64 place = (u64)split * padded_views + row;
    *sum += (double)sums[place] * (double)exponential((maxima[place] - *maximum) * inverse_temperature);
  }
}

// ln(1 + e^x), exact at both ends.
__device__ __forceinline__ double nt_xent_softplus(double x) {
  return x > 0.0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

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
