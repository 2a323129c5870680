//! Products and convolutions as their formulas say, sums in f64, for toy sizes.

use crate::device::emulator::Emulator;
use crate::device::gpu::{
    Address, Convolution, ConvolutionCall, Element, GpuError, Matrix, Pass, Product, loaded, stored,
};

fn read(emulator: &Emulator, address: Address, n: usize, element: Element) -> Result<Vec<f32>, GpuError> {
    Ok(loaded(emulator.bytes(address, n * element.bytes())?, element))
}

fn write(emulator: &mut Emulator, address: Address, values: &[f32], element: Element) -> Result<(), GpuError> {
    let bytes = stored(values, element);
    emulator.bytes_mut(address, bytes.len())?.copy_from_slice(&bytes);
    Ok(())
}

fn rows(emulator: &Emulator, matrix: Matrix, rows: usize, columns: usize) -> Result<Vec<Vec<f32>>, GpuError> {
    let row = |row: usize| {
        let address = matrix.address.offset(row * matrix.stride * matrix.element.bytes());
        read(emulator, address, columns, matrix.element)
    };
    (0..rows).map(row).collect()
}

pub fn product(emulator: &mut Emulator, product: &Product) -> Result<(), GpuError> {
    let Product { m, n, k, .. } = *product;
    let a = if product.a_transposed {
        transposed(&rows(emulator, product.a, k, m)?, m)
    } else {
        rows(emulator, product.a, m, k)?
    };
    let b = if product.b_transposed {
        rows(emulator, product.b, n, k)?
    } else {
        transposed(&rows(emulator, product.b, k, n)?, n)
    };
    for (i, left) in a.iter().enumerate() {
        let address = product.c.address.offset(i * product.c.stride * product.c.element.bytes());
        let before = read(emulator, address, n, product.c.element)?;
        let entry = |(right, before): (&Vec<f32>, &f32)| {
            let sum: f64 = left.iter().zip(right).map(|(l, r)| f64::from(*l) * f64::from(*r)).sum();
            (sum + if product.accumulate { f64::from(*before) } else { 0.0 }) as f32
        };
        let row: Vec<f32> = b.iter().zip(&before).map(entry).collect();
        write(emulator, address, &row, product.c.element)?;
    }
    Ok(())
}

/// Columns as rows, `columns` of them.
fn transposed(rows: &[Vec<f32>], columns: usize) -> Vec<Vec<f32>> {
    (0..columns).map(|column| rows.iter().map(|row| row[column]).collect()).collect()
}

/// Calls `each` with the indices of x, the weight and y of every multiplication.
fn multiplications(shape: &Convolution, mut each: impl FnMut(usize, usize, usize)) {
    let (out_height, out_width) = (shape.out_height(), shape.out_width());
    for image in 0..shape.images {
        for (oh, ow) in (0..out_height).flat_map(|oh| (0..out_width).map(move |ow| (oh, ow))) {
            for (kh, kw) in (0..shape.kernel).flat_map(|kh| (0..shape.kernel).map(move |kw| (kh, kw))) {
                let (ih, iw) = (oh * shape.stride + kh, ow * shape.stride + kw);
                if ih < shape.padding || iw < shape.padding {
                    continue;
                }
                let (ih, iw) = (ih - shape.padding, iw - shape.padding);
                if ih >= shape.height || iw >= shape.width {
                    continue;
                }
                for o in 0..shape.outputs {
                    for i in 0..shape.inputs {
                        let x = ((image * shape.height + ih) * shape.width + iw) * shape.inputs + i;
                        let w = ((o * shape.kernel + kh) * shape.kernel + kw) * shape.inputs + i;
                        let y = ((image * out_height + oh) * out_width + ow) * shape.outputs + o;
                        each(x, w, y);
                    }
                }
            }
        }
    }
}

pub fn convolution(emulator: &mut Emulator, call: &ConvolutionCall) -> Result<(), GpuError> {
    let (shape, element) = (&call.shape, call.shape.element);
    let x_len = shape.images * shape.height * shape.width * shape.inputs;
    let weight_len = shape.outputs * shape.kernel * shape.kernel * shape.inputs;
    let y_len = shape.images * shape.out_height() * shape.out_width() * shape.outputs;
    let product = |a: f32, b: f32| f64::from(a) * f64::from(b);
    let (target, sums) = match call.pass {
        Pass::Forward => {
            let (x, w) = (read(emulator, call.x, x_len, element)?, read(emulator, call.weight, weight_len, element)?);
            let mut sums = vec![0.0f64; y_len];
            multiplications(shape, |xi, wi, yi| sums[yi] += product(x[xi], w[wi]));
            (call.y, sums)
        }
        Pass::InputGradient => {
            let (dy, w) = (read(emulator, call.y, y_len, element)?, read(emulator, call.weight, weight_len, element)?);
            let mut sums = vec![0.0f64; x_len];
            multiplications(shape, |xi, wi, yi| sums[xi] += product(dy[yi], w[wi]));
            (call.x, sums)
        }
        Pass::WeightGradient => {
            let (x, dy) = (read(emulator, call.x, x_len, element)?, read(emulator, call.y, y_len, element)?);
            let mut sums = vec![0.0f64; weight_len];
            multiplications(shape, |xi, wi, yi| sums[wi] += product(x[xi], dy[yi]));
            (call.weight, sums)
        }
    };
    let values: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
    write(emulator, target, &values, element)
}
