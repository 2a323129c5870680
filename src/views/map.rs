//! The image between two operations: three planes of f32 in [0, 1].

use crate::data::ImageRef;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl Window {
    pub fn whole(width: usize, height: usize) -> Window {
        Window { top: 0, left: 0, height, width }
    }
}

/// 3 × height × width, the red plane first. Planes let every pointwise loop run over contiguous values of one kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map {
    pub width: usize,
    pub height: usize,
    pub values: Vec<f32>,
}

/// Level v as v / 255, correctly rounded.
const LEVELS: [f32; 256] = {
    let mut levels = [0.0; 256];
    let mut level = 0;
    while level < 256 {
        levels[level] = level as f32 / 255.0;
        level += 1;
    }
    levels
};

impl Map {
    /// Sets the shape; the values are whatever they were.
    pub fn reshape(&mut self, width: usize, height: usize) {
        self.width = width;
        self.height = height;
        self.values.resize(3 * width * height, 0.0);
    }

    /// Takes a window of an 8-bit image.
    pub fn load(&mut self, image: ImageRef<'_>, window: Window) {
        self.reshape(window.width, window.height);
        let rows = image.pixels.chunks_exact(3 * image.width).skip(window.top);
        let [red, green, blue] = self.planes_mut();
        let planes = red.chunks_exact_mut(window.width).zip(green.chunks_exact_mut(window.width));
        for (((red, green), blue), row) in planes.zip(blue.chunks_exact_mut(window.width)).zip(rows) {
            let pixels = row[3 * window.left..].chunks_exact(3);
            for (((red, green), blue), pixel) in red.iter_mut().zip(green).zip(blue).zip(pixels) {
                *red = LEVELS[pixel[0] as usize];
                *green = LEVELS[pixel[1] as usize];
                *blue = LEVELS[pixel[2] as usize];
            }
        }
    }

    /// Takes a window of another map.
    pub fn cut(&mut self, source: &Map, window: Window) {
        self.reshape(window.width, window.height);
        let area = window.width * window.height;
        for (plane, target) in source.planes().into_iter().zip(self.values.chunks_exact_mut(area)) {
            let rows = plane.chunks_exact(source.width).skip(window.top);
            for (row, target) in rows.zip(target.chunks_exact_mut(window.width)) {
                target.copy_from_slice(&row[window.left..window.left + window.width]);
            }
        }
    }

    pub fn planes(&self) -> [&[f32]; 3] {
        let area = self.width * self.height;
        let (red, rest) = self.values.split_at(area);
        let (green, blue) = rest.split_at(area);
        [red, green, blue]
    }

    pub fn planes_mut(&mut self) -> [&mut [f32]; 3] {
        let area = self.width * self.height;
        let (red, rest) = self.values.split_at_mut(area);
        let (green, blue) = rest.split_at_mut(area);
        [red, green, blue]
    }

    /// Replaces every pixel (red, green, blue) by a function of itself.
    pub fn for_each_pixel(&mut self, pointwise: impl Fn([f32; 3]) -> [f32; 3]) {
        let [red, green, blue] = self.planes_mut();
        for ((red, green), blue) in red.iter_mut().zip(green).zip(blue) {
            [*red, *green, *blue] = pointwise([*red, *green, *blue]);
        }
    }

    /// Writes height × width × 3.
    pub fn write_interleaved(&self, out: &mut [f32]) {
        let [red, green, blue] = self.planes();
        for (((pixel, red), green), blue) in out.chunks_exact_mut(3).zip(red).zip(green).zip(blue) {
            pixel[0] = *red;
            pixel[1] = *green;
            pixel[2] = *blue;
        }
    }
}
