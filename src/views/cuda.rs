//! All views of a step on a GPU, in one launch, from the 8-bit images that lie in its memory: the draws and the formulas of
//! [`Pipeline`], so that a view does not depend on where it is made.

use crate::data::Images;
use crate::device::gpu::{Address, Argument, Launch, Node, Source};
use crate::views::Pipeline;
use crate::views::operation::Operation;
use crate::views::packed::{Kind, Packed};
use crate::views::random_resized_crop::BICUBIC;

/// The augmentations' device code, one after another, and the kernels that run it.
pub const SOURCE: Source = Source {
    name: "views",
    text: concat!(
        include_str!("operation.cuh"),
        include_str!("map.cuh"),
        include_str!("exponential.cuh"),
        include_str!("random_resized_crop/kernel.cuh"),
        include_str!("flip/kernel.cuh"),
        include_str!("rotate/kernel.cuh"),
        include_str!("grayscale/kernel.cuh"),
        include_str!("color_jitter/hue.cuh"),
        include_str!("color_jitter/kernel.cuh"),
        include_str!("gaussian_blur/extended_box.cuh"),
        include_str!("gaussian_blur/kernel.cuh"),
        include_str!("solarize/kernel.cuh"),
        include_str!("normalize/kernel.cuh"),
        include_str!("views.cu"),
    ),
};

/// Threads that make one view.
const THREADS: u32 = 256;
/// Shared memory every device grants a block.
const SHARED_BYTES_MAX: usize = 48 * 1024;
/// Blocks that share the scratch when a view does not fit in shared memory: they make one view after another.
const SCRATCH_BLOCKS_MAX: usize = 256;
const PARTIAL_SUMS: usize = 16;
/// Words of the kernel's struct `Drawn`.
const DRAWN_WORDS: usize = 9;

/// What bounds the working memory of a view: largest width, height and number of pixels of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Largest {
    pub width: usize,
    pub height: usize,
    pub pixels: usize,
}

/// A set of images as the kernels read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceImages {
    /// Height × width × 3 of every image, one after another.
    pub pixels: Vec<u8>,
    /// Offset into the pixels (u64), width and height (u32) of every image.
    pub places: Vec<u8>,
    pub largest: Largest,
}

impl DeviceImages {
    pub fn new(images: &Images) -> DeviceImages {
        let mut device = DeviceImages {
            pixels: Vec::new(),
            places: Vec::new(),
            largest: Largest { width: 1, height: 1, pixels: 1 },
        };
        for image in (0..images.len()).map(|index| images.get(index)) {
            let size = [image.width, image.height].map(|length| (length as u32).to_le_bytes());
            device.places.extend((device.pixels.len() as u64).to_le_bytes());
            device.places.extend(size.as_flattened());
            device.pixels.extend_from_slice(image.pixels);
            let largest = device.largest;
            device.largest = Largest {
                width: largest.width.max(image.width),
                height: largest.height.max(image.height),
                pixels: largest.pixels.max(image.width * image.height),
            };
        }
        device
    }
}

/// Where what all launches read lies in the device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inputs {
    /// [`DeviceViews::table`].
    pub table: Address,
    /// [`DeviceImages::pixels`].
    pub pixels: Address,
    /// [`DeviceImages::places`].
    pub places: Address,
    /// [`DeviceViews::scratch_bytes`] of them; none where that is 0.
    pub scratch: Address,
}

/// Which examples a training step sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainingStep {
    /// u32: indices of the examples of one epoch, at least `steps_per_epoch` × `batch` of them.
    pub order: Address,
    /// u64: steps done so far.
    pub step: Address,
    pub steps_per_epoch: u64,
    /// Examples a step, at least 1.
    pub batch: usize,
}

/// Views × side × side × channels, stored as activations are; channels past the third become 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output {
    pub address: Address,
    /// At least 3; multiples of 8 are written fastest.
    pub channels: usize,
}

/// How the image gets into the map before the operations; the numbers are those of the kernel's `Header`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loading {
    Crop = 0,
    Whole = 1,
    Fitted = 2,
}

/// Working memory of one view, in 4-byte words: partial sums from 0 on, then the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Layout {
    /// Most inputs an output of a resize has.
    reach: usize,
    draws: usize,
    taps: usize,
    weights: usize,
    map: usize,
    spare: usize,
    /// Of all, a multiple of 4.
    words: usize,
}

impl Layout {
    fn new(operations: &[Packed], loading: Loading, side: usize, largest: Largest) -> Layout {
        let longest = largest.width.max(largest.height);
        let is_bicubic = |operation: &Packed| operation.kind == Kind::RandomResizedCrop && operation.variant == BICUBIC;
        let radius = if operations.iter().any(is_bicubic) { 2 } else { 1 };
        // The support is radius × max(scale, 1) either way: at most 2 × support + 1 inputs, and one for roundings.
        let reach = longest.min(2 * radius * longest.div_ceil(side).max(1) + 2);
        let view = 3 * side * side;
        let (map, spare) = match loading {
            Loading::Crop | Loading::Fitted => (view, view.max(3 * largest.height * side)),
            // An image of any size in either, and before the crop it may lie on its side.
            Loading::Whole => {
                let larger = view.max(3 * largest.pixels).max(3 * longest * side);
                (larger, larger)
            }
        };
        let aligned = |words: usize| words.next_multiple_of(4);
        let draws = PARTIAL_SUMS;
        let taps = draws + aligned(DRAWN_WORDS * operations.len());
        let weights = taps + aligned(2 * side * (2 + reach));
        let map_at = weights + aligned(operations.iter().map(|operation| operation.weights).sum());
        let spare_at = map_at + aligned(map);
        Layout { reach, draws, taps, weights, map: map_at, spare: spare_at, words: spare_at + aligned(spare) }
    }
}

/// The launches of one pipeline over one set of images.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceViews {
    table: Vec<u8>,
    layout: Layout,
    seed: u64,
}

impl DeviceViews {
    /// # Panics
    /// When the working memory of a view has 2³¹ words or more.
    pub fn new(pipeline: &Pipeline, largest: Largest) -> DeviceViews {
        let operations: Vec<Packed> = pipeline.operations().iter().map(Operation::packed).collect();
        let crop = operations.iter().position(|operation| operation.kind == Kind::RandomResizedCrop);
        let loading = match crop {
            Some(0) => Loading::Crop,
            Some(_) => Loading::Whole,
            None => Loading::Fitted,
        };
        let layout = Layout::new(&operations, loading, pipeline.side(), largest);
        DeviceViews { table: table(&operations, loading, pipeline.side(), &layout), layout, seed: pipeline.seed() }
    }

    /// The pipeline as the kernels read it: ten words of the struct `Header`, then 44 bytes an operation.
    pub fn table(&self) -> &[u8] {
        &self.table
    }

    /// What launches of up to `views` views need of scratch: 0 when a view fits in a block's shared memory.
    pub fn scratch_bytes(&self, views: usize) -> usize {
        if self.fits_shared_memory() { 0 } else { self.blocks(views) * self.bytes() }
    }

    /// 2 × batch views for a training step: the first views of all its examples, then the second.
    pub fn training(&self, inputs: &Inputs, step: &TrainingStep, out: &Output) -> Node {
        let arguments = vec![
            Argument::Address(inputs.table),
            Argument::Address(inputs.pixels),
            Argument::Address(inputs.places),
            Argument::Address(step.order),
            Argument::Address(step.step),
            Argument::Address(self.scratch(inputs)),
            Argument::Address(out.address),
            Argument::U64(step.steps_per_epoch),
            Argument::U64(self.seed),
            int(step.batch),
            int(out.channels),
        ];
        self.launch("views_training", 2 * step.batch, arguments)
    }

    /// What evaluations see of `images` images, at least one, from `first` on.
    pub fn evaluation(&self, inputs: &Inputs, first: usize, images: usize, out: &Output) -> Node {
        let arguments = vec![
            Argument::Address(inputs.table),
            Argument::Address(inputs.pixels),
            Argument::Address(inputs.places),
            Argument::Address(self.scratch(inputs)),
            Argument::Address(out.address),
            int(first),
            int(images),
            int(out.channels),
        ];
        self.launch("views_evaluation", images, arguments)
    }

    fn bytes(&self) -> usize {
        4 * self.layout.words
    }

    fn fits_shared_memory(&self) -> bool {
        self.bytes() <= SHARED_BYTES_MAX
    }

    fn scratch(&self, inputs: &Inputs) -> Address {
        if self.fits_shared_memory() { Address::NONE } else { inputs.scratch }
    }

    fn blocks(&self, views: usize) -> usize {
        if self.fits_shared_memory() { views } else { views.min(SCRATCH_BLOCKS_MAX) }
    }

    fn launch(&self, kernel: &'static str, views: usize, arguments: Vec<Argument>) -> Node {
        let blocks = u32::try_from(self.blocks(views)).expect("fewer than 2³² views");
        let shared_bytes = if self.fits_shared_memory() { self.bytes() as u32 } else { 0 };
        Node::Launch(Launch { kernel, grid: [blocks, 1, 1], block: [THREADS, 1, 1], shared_bytes, arguments })
    }
}

fn int(size: usize) -> Argument {
    Argument::I32(word(size))
}

/// # Panics
/// From 2³¹ on.
fn word(size: usize) -> i32 {
    i32::try_from(size).expect("a size below 2³¹")
}

fn table(operations: &[Packed], loading: Loading, side: usize, layout: &Layout) -> Vec<u8> {
    let Layout { reach, draws, taps, weights, map, spare, words } = *layout;
    let header = [operations.len(), side, loading as usize, reach, draws, taps, weights, map, spare, words];
    let mut table: Vec<u8> = header.iter().flat_map(|&size| word(size).to_le_bytes()).collect();
    let mut room = 0;
    for operation in operations {
        table.extend(operation.bytes(word(room)));
        room += operation.weights;
    }
    table
}
