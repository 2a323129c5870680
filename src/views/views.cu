// All views of a step in one launch: a block makes one view after another, in working memory of its own.

// What views::cuda puts before the operations; places are counted in floats.
struct Header {
  int operations, side;
  int loading;  // 0: the first operation crops the image itself, 1: whole, 2: fitted to the side
  int reach;    // most inputs an output of a resize has
  int draws, taps, weights, map, spare;
  int stride;   // working memory of a block
};

// Where one image of the data set lies: bytes into the pixels.
struct ImagePlace {
  u64 offset;
  u32 width, height;
};

// Which view of which example.
struct Place {
  u64 seed;
  u32 example, epoch, view;
};

__device__ __forceinline__ Image image_at(const u8* pixels, ImagePlace place) {
  Image image = {pixels + place.offset, (int)place.width, (int)place.height};
  return image;
}

__device__ __forceinline__ float* working_memory(const Header& header, float* shared, float* scratch) {
  return scratch ? scratch + (u64)blockIdx.x * (u64)header.stride : shared;
}

__device__ __forceinline__ View empty_view(const Header& header, float* work) {
  View view = {work + header.map, work + header.spare, 0, 0, work + header.taps, header.reach, work};
  return view;
}

// The draw of the operation at `position`. Before a crop the image may have been turned, which is drawn elsewhere: redone here.
__device__ __forceinline__ Drawn draw(const Header& header, const Operation* operations, int position, Place place,
                                      Image image, float* weights) {
  const Operation& operation = operations[position];
  Stream stream = stream_at(place.seed, place.example, place.epoch, place.view, (u32)position);
  if (operation.kind == COLOR_JITTER) return color_jitter_draw(stream, operation);
  if (operation.kind == GAUSSIAN_BLUR) return gaussian_blur_draw(stream, operation, weights + operation.room);
  if (operation.kind == ROTATE) return rotate_draw(stream, operation);
  if (operation.kind == RANDOM_RESIZED_CROP) {
    int width = image.width, height = image.height;
    for (int before = 0; before < position; ++before) {
      if (operations[before].kind == RANDOM_RESIZED_CROP) width = height = header.side;
      if (operations[before].kind != ROTATE_90) continue;
      Stream turn = stream_at(place.seed, place.example, place.epoch, place.view, (u32)before);
      if (!chance(turn, operations[before].p)) continue;
      int old_width = width;
      width = height;
      height = old_width;
    }
    return crop_draw(stream, operation, width, height);
  }
  Drawn drawn = {};
  drawn.applied = operation.kind == NORMALIZE || chance(stream, operation.p);
  return drawn;
}

__device__ __forceinline__ void apply(View& view, const Operation& operation, const Drawn& drawn, int side,
                                      const float* weights) {
  switch (operation.kind) {
    case RANDOM_RESIZED_CROP: crop(view, 0, drawn, operation.variant, side); break;
    case HORIZONTAL_FLIP: flip_horizontal(view); break;
    case VERTICAL_FLIP: flip_vertical(view); break;
    case ROTATE_90: quarter_turn(view); break;
    case ROTATE: rotate_by_angle(view, drawn); break;
    case COLOR_JITTER: color_jitter(view, drawn, operation.variant); break;
    case GRAYSCALE: grayscale(view); break;
    case GAUSSIAN_BLUR: gaussian_blur(view, drawn, operation.variant, weights + operation.room); break;
    case SOLARIZE: solarize(view, operation.parameters[0]); break;
    case NORMALIZE: normalize(view, operation); break;
  }
}

// side × side × channels; channels past the third are 0.
__device__ __forceinline__ void write_view(const View& view, store_t* out, int channels) {
  int area = view.width * view.height;
  for (int p = threadIdx.x; p < area; p += blockDim.x) {
    Pixel pixel = pixel_at(view.map, area, p);
    store_t* to = out + (u64)p * channels;
    if (channels % 8 == 0) {
      float eight[8] = {pixel.red, pixel.green, pixel.blue, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
      store8(to, eight);
      eight[0] = eight[1] = eight[2] = 0.0f;
      for (int channel = 8; channel < channels; channel += 8) store8(to + channel, eight);
    } else {
      to[0] = stored(pixel.red);
      to[1] = stored(pixel.green);
      to[2] = stored(pixel.blue);
      for (int channel = 3; channel < channels; ++channel) to[channel] = stored(0.0f);
    }
  }
}

// 2 × batch views of the step that `step` counts: all first views, then all second views.
extern "C" __global__ void __launch_bounds__(256)
    views_training(const Header* table, const u8* pixels, const ImagePlace* places, const u32* order, const u64* step,
                   float* scratch, store_t* out, u64 steps_per_epoch, u64 seed, int batch, int channels) {
  SHARED_ARRAY(float, shared);
  const Header& header = *table;
  const Operation* operations = (const Operation*)(table + 1);
  float* work = working_memory(header, shared, scratch);
  Drawn* draws = (Drawn*)(work + header.draws);
  float* weights = work + header.weights;
  u64 now = *step, first = now % steps_per_epoch * (u64)batch;
  int length = header.side * header.side * channels;
  for (int index = blockIdx.x; index < 2 * batch; index += gridDim.x) {
    u32 second = index >= batch;
    u32 example = order[first + (second ? index - batch : index)];
    Place place = {seed, example, (u32)(now / steps_per_epoch), second};
    Image image = image_at(pixels, places[example]);
    // A warp draws for one operation after another.
    for (int position = threadIdx.x / 32; position < header.operations; position += blockDim.x / 32) {
      Drawn drawn = draw(header, operations, position, place, image, weights);
      if (threadIdx.x % 32 == 0) draws[position] = drawn;
    }
    __syncthreads();
    View view = empty_view(header, work);
    if (header.loading == 0) crop(view, &image, draws[0], operations[0].variant, header.side);
    else if (header.loading == 1) load_whole(view, image);
    else load_fitted(view, image, header.side);
    for (int position = header.loading == 0; position < header.operations; ++position)
      if (draws[position].applied) apply(view, operations[position], draws[position], header.side, weights);
    write_view(view, out + (u64)index * length, channels);
    __syncthreads();
  }
}

// Images first … first + images − 1 as evaluations see them: fitted, normalised, nothing random.
extern "C" __global__ void __launch_bounds__(256, 4)
    views_evaluation(const Header* table, const u8* pixels, const ImagePlace* places, float* scratch, store_t* out,
                     int first, int images, int channels) {
  SHARED_ARRAY(float, shared);
  const Header& header = *table;
  const Operation* operations = (const Operation*)(table + 1);
  float* work = working_memory(header, shared, scratch);
  int length = header.side * header.side * channels;
  for (int index = blockIdx.x; index < images; index += gridDim.x) {
    View view = empty_view(header, work);
    load_fitted(view, image_at(pixels, places[first + index]), header.side);
    for (int position = 0; position < header.operations; ++position)
      if (operations[position].kind == NORMALIZE) normalize(view, operations[position]);
    // No barrier: a resize begins with one, and everything else stays on a thread's own pixels.
    write_view(view, out + (u64)index * length, channels);
  }
}

KERNEL_EXPORT(views_training)
KERNEL_EXPORT(views_evaluation)
