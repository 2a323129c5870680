//! One operation as the device reads it: the struct `Operation` of `operation.cuh`.

/// The numbers are those of `OperationKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Kind {
    RandomResizedCrop = 0,
    HorizontalFlip = 1,
    VerticalFlip = 2,
    Rotate90 = 3,
    Rotate = 4,
    ColorJitter = 5,
    Grayscale = 6,
    GaussianBlur = 7,
    Solarize = 8,
    Normalize = 9,
}

/// Most parameters an operation has.
const PARAMETERS: usize = 7;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Packed {
    pub kind: Kind,
    /// Which of two ways, where there are two.
    pub variant: i32,
    pub p: f32,
    /// In the order the head of the operation's `kernel.cuh` gives; the rest is 0.
    pub parameters: [f32; PARAMETERS],
    /// Floats of working memory that are its own.
    pub weights: usize,
}

impl Packed {
    pub fn new(kind: Kind, p: f32) -> Packed {
        Packed { kind, variant: 0, p, parameters: [0.0; PARAMETERS], weights: 0 }
    }

    /// What is not left to chance.
    pub fn always(kind: Kind) -> Packed {
        Packed::new(kind, 1.0)
    }

    /// # Panics
    /// With more than seven.
    pub fn with(mut self, parameters: &[f32]) -> Packed {
        self.parameters[..parameters.len()].copy_from_slice(parameters);
        self
    }

    /// 44 bytes: kind, variant, `room` (first of its floats of working memory), p, parameters.
    pub fn bytes(&self, room: i32) -> Vec<u8> {
        let whole = [self.kind as i32, self.variant, room].map(i32::to_le_bytes);
        let real = std::iter::once(self.p).chain(self.parameters).map(f32::to_le_bytes);
        whole.into_iter().chain(real).flatten().collect()
    }
}
