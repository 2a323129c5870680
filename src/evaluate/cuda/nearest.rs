//! The exact k nearest images of every query on a GPU.
//!
//! The bank passes through in chunks of equal size, so memory does not grow with it and every product of a query is summed
//! in the same way: equal images are equally near. After each chunk a query keeps its k nearest so far.

use crate::device::gpu::{Address, Argument, Element, Gpu, GpuError, Matrix, Node, Product, Source, bytes_of_f32};
use crate::evaluate::neighbour::Neighbour;
use crate::ops::kernels::{int, launch_shared, pointer};

pub const SOURCE: Source = Source { name: "nearest", text: include_str!("nearest.cu") };

/// The largest k: its keys fill 32 KiB of a block's memory while they are sorted.
pub const NEIGHBOURS_MAX: usize = 4096;

/// What is searched. Rows of `width` numbers, one after another.
#[derive(Debug, Clone, Copy)]
pub struct Search<'a> {
    pub bank: &'a [f32],
    /// One number for every image, taken from its product with a query: ½‖b‖² to search by distance.
    pub offsets: Option<&'a [f32]>,
    pub queries: &'a [f32],
    /// At least 1.
    pub width: usize,
    /// Cut to 1..= the size of the bank.
    pub k: usize,
}

/// How much is in work at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub chunk_images_max: usize,
    pub panel_queries: usize,
}

/// 64 MiB of products.
const CUT: Cut = Cut { chunk_images_max: 8192, panel_queries: 2048 };

impl Cut {
    /// Images a chunk: equally many, but for those missing in the last.
    fn chunk_images(&self, n_images: usize) -> usize {
        n_images.div_ceil(n_images.div_ceil(self.chunk_images_max)).next_multiple_of(8)
    }
}

/// The k nearest images of every query, nearest first; of equally near ones the lower index comes first.
/// [`SOURCE`] must be loaded.
///
/// # Errors
/// From the device, and for k above [`NEIGHBOURS_MAX`].
///
/// # Panics
/// When a length is not a multiple of the width, or the offsets are not one an image.
pub fn nearest(search: &Search<'_>, gpu: &mut dyn Gpu) -> Result<Vec<Vec<Neighbour>>, GpuError> {
    nearest_cut(search, CUT, gpu)
}

pub(super) fn nearest_cut(search: &Search<'_>, cut: Cut, gpu: &mut dyn Gpu) -> Result<Vec<Vec<Neighbour>>, GpuError> {
    let Search { bank, offsets, queries, width, k } = *search;
    assert!(width > 0 && bank.len().is_multiple_of(width) && queries.len().is_multiple_of(width), "whole rows");
    let (n_images, n_queries) = (bank.len() / width, queries.len() / width);
    assert!(offsets.is_none_or(|offsets| offsets.len() == n_images), "one offset an image");
    if n_images == 0 || n_queries == 0 {
        return Ok(vec![Vec::new(); n_queries]);
    }
    let k = k.clamp(1, n_images);
    if k > NEIGHBOURS_MAX {
        return Err(GpuError::NoPlan(format!("{k} nearest neighbours: at most {NEIGHBOURS_MAX} fit")));
    }
    let sizes = Sizes { n_images, n_queries, width, k, chunk_images: cut.chunk_images(n_images), cut };
    let mut allocated = Vec::new();
    let found = Places::allocated(&sizes, offsets.is_some(), gpu, &mut allocated)
        .and_then(|places| places.search(&sizes, search, gpu));
    // A failure to search says more than one to release.
    let released = allocated.into_iter().try_for_each(|address| gpu.release(address));
    found.and_then(|keys| released.map(|()| keys.chunks_exact(k).map(neighbours).collect()))
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    n_images: usize,
    n_queries: usize,
    width: usize,
    k: usize,
    chunk_images: usize,
    cut: Cut,
}

impl Sizes {
    fn panel_queries(&self) -> usize {
        self.cut.panel_queries.min(self.n_queries)
    }

    /// The images of every chunk, in order.
    fn chunks(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let Sizes { n_images, chunk_images, .. } = *self;
        (0..n_images).step_by(chunk_images).map(move |first| first..n_images.min(first + chunk_images))
    }
}

/// Where the search reads and writes.
#[derive(Debug, Clone, Copy)]
struct Places {
    /// All queries.
    queries: Address,
    /// One chunk of the bank; behind its last image whatever was there before.
    chunk: Address,
    /// Of that chunk, or none.
    offsets: Address,
    /// Queries of a panel × images of a chunk.
    products: Address,
    /// All queries × k u64.
    keys: Address,
}

impl Places {
    /// What was allocated is in `allocated`, even after an error.
    fn allocated(
        sizes: &Sizes,
        with_offsets: bool,
        gpu: &mut dyn Gpu,
        allocated: &mut Vec<Address>,
    ) -> Result<Places, GpuError> {
        let mut allocate = |bytes: usize| {
            let address = gpu.allocate(bytes)?;
            allocated.push(address);
            Ok(address)
        };
        Ok(Places {
            queries: allocate(sizes.n_queries * sizes.width * 4)?,
            chunk: allocate(sizes.chunk_images * sizes.width * 4)?,
            offsets: if with_offsets { allocate(sizes.chunk_images * 4)? } else { Address::NONE },
            products: allocate(sizes.panel_queries() * sizes.chunk_images * 4)?,
            keys: allocate(sizes.n_queries * sizes.k * 8)?,
        })
    }

    /// The keys of every query, nearest first.
    fn search(&self, sizes: &Sizes, search: &Search<'_>, gpu: &mut dyn Gpu) -> Result<Vec<u64>, GpuError> {
        let width = sizes.width;
        gpu.upload(self.queries, &bytes_of_f32(search.queries))?;
        gpu.prepare(&self.nodes(sizes, 0..sizes.chunk_images.min(sizes.n_images)))?;
        for images in sizes.chunks() {
            gpu.upload(self.chunk, &bytes_of_f32(&search.bank[images.start * width..images.end * width]))?;
            if let Some(offsets) = search.offsets {
                gpu.upload(self.offsets, &bytes_of_f32(&offsets[images.clone()]))?;
            }
            gpu.run(&self.nodes(sizes, images))?;
        }
        let mut bytes = vec![0; sizes.n_queries * sizes.k * 8];
        gpu.download(self.keys, &mut bytes)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    /// One chunk of the bank for every query.
    fn nodes(&self, sizes: &Sizes, images: std::ops::Range<usize>) -> Vec<Node> {
        let panels = (0..sizes.n_queries).step_by(sizes.panel_queries());
        panels
            .flat_map(|first| {
                let n_queries = sizes.panel_queries().min(sizes.n_queries - first);
                [self.product(sizes, first, n_queries), self.keep(sizes, first, n_queries, images.clone())]
            })
            .collect()
    }

    fn product(&self, sizes: &Sizes, first_query: usize, n_queries: usize) -> Node {
        let matrix = |address, stride| Matrix { address, element: Element::F32, stride };
        Node::Product(Product {
            m: n_queries,
            n: sizes.chunk_images,
            k: sizes.width,
            a: matrix(self.queries.offset(first_query * sizes.width * 4), sizes.width),
            a_transposed: false,
            b: matrix(self.chunk, sizes.width),
            b_transposed: true,
            c: matrix(self.products, sizes.chunk_images),
            accumulate: false,
        })
    }

    fn keep(&self, sizes: &Sizes, first_query: usize, n_queries: usize, images: std::ops::Range<usize>) -> Node {
        let power = sizes.k.next_power_of_two();
        let is_last = images.end == sizes.n_images;
        let arguments = vec![
            pointer(self.keys.offset(first_query * sizes.k * 8)),
            pointer(self.products),
            pointer(self.offsets),
            int(sizes.chunk_images),
            int(sizes.k.min(images.start)),
            int(images.len()),
            Argument::U32(images.start as u32),
            int(sizes.k),
            int(if is_last { power } else { 0 }),
        ];
        launch_shared("nearest_keep", [n_queries, 1, 1], [256, 1, 1], 8 * power as u32, arguments)
    }
}

/// The reverse of the kernel's `nearest_key`.
fn neighbours(keys: &[u64]) -> Vec<Neighbour> {
    let of_key = |key: &u64| {
        let bits = (key >> 32) as u32;
        let bits = if bits >> 31 == 1 { bits & 0x7fff_ffff } else { !bits };
        Neighbour { nearness: f32::from_bits(bits), image: !(*key as u32) }
    };
    keys.iter().map(of_key).collect()
}
