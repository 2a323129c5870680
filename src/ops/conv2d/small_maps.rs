//! Which way a convolution is computed on a GPU, and which taps its weights hold for it.
//!
//! On maps of one or four pixels most taps of a window lie in the padding, and an engine multiplies the padding's zeros
//! all the same. Two ways leave them out. Both are the definition's own sum with terms that are exactly 0 left out or
//! with the same terms in one product, so nothing is approximated:
//!
//! - [`Way::Centre`]: the output is 1×1 and one tap alone touches the input, as for 3×3 on 1×1 maps, 1×1 on 1×1 and
//!   1×1 with stride 2 from 2×2. y = x · wᵀ with the weight of that tap, x being that pixel of every image.
//! - [`Way::Dense`]: the input and the output have at most four pixels and the input has fewer than the window. The layer
//!   is one matrix from all inputs to all outputs of an image, in which every tap stands wherever it applies:
//!   3×3 on 2×2 costs 16 products an input and output channel for the window's 36, 3×3 with stride 2 from 2×2 to 1×1 costs 4
//!   for 9. The gradient of the matrix is one product as well, and that of a tap the sum over the places where it stands.
//!
//! The choice depends on the sizes of one image alone.

use crate::device::gpu::Convolution;

/// How a convolution is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// By a convolution engine, on the window as it is.
    Engine,
    /// By one product with the only tap that touches the input.
    Centre,
    /// By one product from all pixels of an image to all pixels.
    Dense,
}

/// Most pixels of a map, on either side, for which a layer is written out as one matrix.
const DENSE_PIXELS: usize = 4;

/// The way of a layer, from the sizes of one image.
pub fn way(shape: &Convolution) -> Way {
    let pixels = shape.height * shape.width;
    let out_pixels = shape.out_height() * shape.out_width();
    if out_pixels == 1 && live(shape, shape.height).len() == 1 && live(shape, shape.width).len() == 1 {
        Way::Centre
    } else if pixels <= DENSE_PIXELS && out_pixels <= DENSE_PIXELS && pixels < shape.kernel * shape.kernel {
        Way::Dense
    } else {
        Way::Engine
    }
}

/// Taps of the first output, along an axis of `size`, that touch the input.
fn live(shape: &Convolution, size: usize) -> std::ops::Range<usize> {
    shape.padding.min(shape.kernel)..(size + shape.padding).min(shape.kernel)
}

/// What the weights of a layer hold for the way it is computed: for every pair of an output and an input pixel the tap
/// that joins them. The matrix is (output pixels × outputs) rows of (input pixels × inputs) numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pairs {
    /// Of the window.
    pub kernel: usize,
    /// Input pixels: rows × columns.
    pub rows: usize,
    pub columns: usize,
    /// Output pixels.
    pub out_rows: usize,
    pub out_columns: usize,
    pub stride: usize,
    /// The tap row that joins output row 0 with input row 0.
    pub row_padding: usize,
    pub column_padding: usize,
}

impl Pairs {
    /// The window itself: every tap once, as a layer without padding from K×K pixels to one.
    pub fn window(kernel: usize) -> Pairs {
        Pairs {
            kernel,
            rows: kernel,
            columns: kernel,
            out_rows: 1,
            out_columns: 1,
            stride: 1,
            row_padding: 0,
            column_padding: 0,
        }
    }

    pub fn of(shape: &Convolution, way: Way) -> Pairs {
        match way {
            Way::Engine => Pairs::window(shape.kernel),
            Way::Centre => Pairs {
                rows: 1,
                columns: 1,
                row_padding: live(shape, shape.height).start,
                column_padding: live(shape, shape.width).start,
                ..Pairs::window(shape.kernel)
            },
            Way::Dense => Pairs {
                kernel: shape.kernel,
                rows: shape.height,
                columns: shape.width,
                out_rows: shape.out_height(),
                out_columns: shape.out_width(),
                stride: shape.stride,
                row_padding: shape.padding,
                column_padding: shape.padding,
            },
        }
    }

    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    pub fn out_pixels(&self) -> usize {
        self.out_rows * self.out_columns
    }
}
