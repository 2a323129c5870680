use super::Products;
use crate::device::cuda::column_major::{Operand, Problem, description, problem};
use crate::device::cuda::cublaslt::describe;
use crate::device::cuda::cudnn;
use crate::device::cuda::product_algorithm::Configuration;
use crate::device::gpu::{Address, Element, GpuError, Matrix, Product};

fn matrix(element: Element, stride: usize) -> Matrix {
    Matrix { address: Address(4096), element, stride }
}

/// m, n, k and how a and b are stored, with strides beyond the rows where `gap` is not 0.
fn product([m, n, k]: [usize; 3], [a_transposed, b_transposed]: [bool; 2], gap: usize) -> Product {
    let a = matrix(Element::F32, gap + if a_transposed { m } else { k });
    let b = matrix(Element::F32, 2 * gap + if b_transposed { k } else { n });
    let c = matrix(Element::F32, 3 * gap + n);
    Product { m, n, k, a, a_transposed, b, b_transposed, c, accumulate: false }
}

/// Every kind of storage, sizes and gaps.
fn products() -> Vec<Product> {
    let mut products = Vec::new();
    for sizes in [[1, 1, 1], [3, 5, 7], [4, 1, 6], [1, 6, 2], [5, 4, 1]] {
        for gap in [0, 3] {
            for storage in [[false, false], [false, true], [true, false], [true, true]] {
                products.push(product(sizes, storage, gap));
            }
        }
    }
    products
}

/// Small whole numbers, so that every sum is exact.
fn numbers(count: usize, seed: usize) -> Vec<i64> {
    (0..count).map(|index| ((index * 37 + seed * 11) % 19) as i64 - 9).collect()
}

/// What BLAS defines: column-major, each operand transposed or not, read at row + column · leading.
fn column_major(problem: &Problem, first: &[i64], second: &[i64], result: &mut [i64]) {
    let at = |operand: &Operand, values: &[i64], row: usize, column: usize| {
        let (row, column) = if operand.transposed { (column, row) } else { (row, column) };
        assert!(row < operand.rows && column < operand.columns, "outside {operand:?}");
        values[row + column * operand.leading]
    };
    for column in 0..problem.n {
        for row in 0..problem.m {
            let terms = (0..problem.k)
                .map(|inner| at(&problem.first, first, row, inner) * at(&problem.second, second, inner, column));
            result[row + column * problem.result.leading] = terms.sum();
        }
    }
}

/// What a product means: row-major.
fn row_major(product: &Product, a: &[i64], b: &[i64], c: &mut [i64]) {
    for row in 0..product.m {
        for column in 0..product.n {
            let terms = (0..product.k).map(|inner| {
                let of_a =
                    if product.a_transposed { inner * product.a.stride + row } else { row * product.a.stride + inner };
                let of_b = if product.b_transposed {
                    column * product.b.stride + inner
                } else {
                    inner * product.b.stride + column
                };
                a[of_a] * b[of_b]
            });
            c[row * product.c.stride + column] = terms.sum();
        }
    }
}

#[test]
fn the_column_major_problem_is_the_same_product() {
    for product in products() {
        let Product { m, n, k, a_transposed, b_transposed, .. } = product;
        let a = numbers(product.a.stride * if a_transposed { k } else { m }, 1);
        let b = numbers(product.b.stride * if b_transposed { n } else { k }, 2);
        let mut expected = vec![i64::MIN; product.c.stride * m];
        let mut computed = expected.clone();
        row_major(&product, &a, &b, &mut expected);
        column_major(&problem(&product).expect("a sound product"), &b, &a, &mut computed);
        assert_eq!(computed, expected, "{product:?}");
    }
}

#[test]
fn a_linear_layers_products_are_these() {
    // y = x · wᵀ: 512 views of 128 numbers, a weight of 64 × 128
    let forward = product([512, 64, 128], [false, true], 0);
    let operand = |rows, columns, leading, transposed| Operand {
        element: Element::F32,
        rows,
        columns,
        leading,
        transposed,
        alignment_bytes: 16,
    };
    let expected = Problem {
        m: 64,
        n: 512,
        k: 128,
        first: operand(128, 64, 128, true),
        second: operand(128, 512, 128, false),
        result: operand(64, 512, 64, false),
    };
    assert_eq!(problem(&forward), Ok(expected));
    assert_eq!(description(&forward), "product 512x64x128 f32 f32 transposed -> f32 strides 128 128 64");
}

#[test]
fn alignment_is_what_the_places_allow() {
    let mut shifted = product([8, 8, 8], [false, false], 0);
    shifted.a.address = Address(4096 + 8);
    shifted.c.address = Address(4096 + 48);
    let problem = problem(&shifted).expect("a sound product");
    let alignments = [problem.first, problem.second, problem.result].map(|operand| operand.alignment_bytes);
    assert_eq!(alignments, [16, 4, 16]);
}

#[test]
fn what_cannot_be_is_refused() {
    let good = product([4, 5, 6], [false, false], 0);
    assert!(problem(&good).is_ok());
    let bf16 = |matrix: Matrix| Matrix { element: Element::Bf16, ..matrix };
    let bad = [
        Product { k: 0, ..good },
        Product { m: 0, ..good },
        Product { a: matrix(Element::F32, 5), ..good },
        Product { c: matrix(Element::F32, 1 << 31), ..good },
        Product { b: Matrix { address: Address(4098), ..good.b }, ..good },
        Product { a: bf16(good.a), ..good },
        Product { c: bf16(good.c), ..good },
    ];
    for product in bad {
        assert!(matches!(problem(&product), Err(GpuError::NoPlan(_))), "{product:?}");
    }
    assert!(problem(&Product { a: bf16(good.a), b: bf16(good.b), ..good }).is_ok());
    assert!(problem(&Product { a: bf16(good.a), b: bf16(good.b), c: bf16(good.c), ..good }).is_ok());
}

#[test]
fn only_ordered_sums_in_f32_are_acceptable() {
    let plain = Configuration {
        algorithm: 66,
        tile: 20,
        stages: 35,
        split_k: 1,
        reduction: 0,
        swizzling: 0,
        option: 0,
        inner_shape: 0,
        cluster_shape: 0,
        numerics: 1 | 2 << 8 | 8 << 16,
        workspace_bytes: 0,
    };
    let both = |configuration: &Configuration| {
        [Element::F32, Element::Bf16].map(|element| configuration.is_acceptable(element))
    };
    assert_eq!(both(&plain), [true, true]);
    assert_eq!(both(&Configuration { split_k: 4, reduction: 2, ..plain.clone() }), [true, true]);
    assert_eq!(both(&Configuration { split_k: 4, reduction: 0, ..plain.clone() }), [false, false]);
    for reduction in [1, 4] {
        assert_eq!(both(&Configuration { split_k: 4, reduction, ..plain.clone() }), [false, false]);
    }
    // the tensor cores' tf32, bf16 inputs, sums in f16
    assert_eq!(both(&Configuration { numerics: 2 | 2 << 8 | 4 << 16, ..plain.clone() }), [false, true]);
    assert_eq!(both(&Configuration { numerics: 2 | 2 << 8 | 2 << 16, ..plain.clone() }), [false, true]);
    assert_eq!(both(&Configuration { numerics: 2 | 1 << 8 | 2 << 16, ..plain }), [false, false]);
}

/// Whether cublasLt is there; where it is not and need not be, that is said aloud.
fn is_there() -> bool {
    cudnn::preload();
    let there = !matches!(Products::new(), Err(GpuError::Library(_)));
    if !there {
        assert!(std::env::var_os("ABLATE_REQUIRE_CUDNN").is_none(), "cublasLt is required and was not found");
        println!("skipped: cublasLt was not found in the folders of ABLATE_CUDA_PATH");
    }
    there
}

#[test]
fn the_library_is_told_the_problem_as_it_is() {
    if !is_there() {
        return;
    }
    for product in products() {
        let problem = problem(&product).expect("a sound product");
        let told = |operand: Operand| {
            let Operand { rows, columns, leading, .. } = operand;
            // CUDA_R_32F is 0
            [0, rows as u64, columns as u64, leading as u64]
        };
        let expected = [told(problem.first), told(problem.second), told(problem.result)];
        assert_eq!(describe(&problem), Ok(expected), "{product:?}");
    }
}

#[test]
fn a_machine_without_a_device_gives_an_error() {
    match Products::new() {
        Ok(products) => assert!(products.choices().is_empty()),
        Err(GpuError::Library(text)) => assert!(text.contains("cublasLt"), "{text}"),
        Err(error) => assert!(matches!(error, GpuError::Call { call: "cublasLtCreate", .. }), "{error}"),
    }
}
