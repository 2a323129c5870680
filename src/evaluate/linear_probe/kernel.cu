// The linear probe's own part of a step; the two products stand between. All numbers are float.
// A row of features is followed by a 1, whose weight is the bias, and by zeros up to `padded`, a multiple of four.

// What is known of a step once its rows are chosen.
struct LinearProbeStep {
  float rate, inverse_batch;
};

// Block r copies the row that stands at place r of this step's batch, and its label; behind the end of the data zeros and -1.
extern "C" __global__ void __launch_bounds__(128)
linear_probe_gather(const float4* __restrict__ bank, const u32* __restrict__ labels, const u32* __restrict__ order,
                    const float* __restrict__ rates, const u64* __restrict__ step, int n, int batch, int steps_an_epoch,
                    int quads, float4* __restrict__ rows, int* __restrict__ row_labels,
                    LinearProbeStep* __restrict__ current) {
  int place = (int)blockIdx.x;
  u64 first = *step % (u64)steps_an_epoch * (u64)batch, at = first + (u64)place;
  bool is_there = at < (u64)n;
  u32 row = is_there ? order[at] : 0u;
  const float4* from = bank + (u64)row * (u64)quads;
  float4* to = rows + (u64)place * (u64)quads;
  float4 zeros = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int i = (int)threadIdx.x; i < quads; i += 128) to[i] = is_there ? from[i] : zeros;
  if (threadIdx.x != 0) return;
  row_labels[place] = is_there ? (int)labels[row] : -1;
  if (place == 0) {
    u64 left = (u64)n - first;
    LinearProbeStep now = {rates[*step], 1.0f / (float)(left < (u64)batch ? left : (u64)batch)};
    *current = now;
  }
}

// A warp a row: softmax of the logits less 1 at the label, in place. What comes of a row of zeros does not matter: the
// product with the rows takes it times 0.
extern "C" __global__ void __launch_bounds__(256)
linear_probe_errors(float* logits, const int* __restrict__ row_labels, int n_rows, int n_classes, int stride) {
  int row = (int)blockIdx.x * 8 + (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
  if (row >= n_rows) return;
  float* own = logits + (u64)row * (u64)stride;
  int label = row_labels[row];
  float maximum = -3.402823466e38f;
  for (int k = lane; k < n_classes; k += 32) maximum = fmaxf(maximum, own[k]);
  for (int offset = 16; offset; offset >>= 1) maximum = fmaxf(maximum, __shfl_xor_sync(~0u, maximum, offset));
  float sum = 0.0f;
  for (int k = lane; k < n_classes; k += 32) {
    float power = exponential(own[k] - maximum);
    own[k] = power;
    sum += power;
  }
  sum = warp_sum(sum);
  for (int k = lane; k < n_classes; k += 32) own[k] = own[k] / sum - (k == label ? 1.0f : 0.0f);
}

// SGD with Nesterov momentum along the mean of the summed gradient; ends the step. The bias does not decay.
extern "C" __global__ void __launch_bounds__(256)
linear_probe_descend(float* __restrict__ weights, float* __restrict__ buffer, const float* __restrict__ gradient,
                     const LinearProbeStep* __restrict__ current, int n, int padded, int width, float momentum,
                     float decay, u64* step) {
  if (blockIdx.x == 0 && threadIdx.x == 0) *step += 1;
  int i = (int)blockIdx.x * 256 + (int)threadIdx.x;
  if (i >= n) return;
  LinearProbeStep now = *current;
  float weight = weights[i];
  float direction = gradient[i] * now.inverse_batch + (i % padded == width ? 0.0f : decay) * weight;
  float moved = momentum * buffer[i] + direction;
  buffer[i] = moved;
  weights[i] = weight - now.rate * (direction + momentum * moved);
}

KERNEL_EXPORT(linear_probe_gather)
KERNEL_EXPORT(linear_probe_errors)
KERNEL_EXPORT(linear_probe_descend)
