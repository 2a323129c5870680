//! The search on the emulated device against a full sort.

use super::nearest::{Cut, NEIGHBOURS_MAX, SOURCE, Search, nearest, nearest_cut};
use crate::device::emulator::{Emulator, Order};
use crate::device::gpu::{Element, Gpu, GpuError};
use crate::evaluate::neighbour::Neighbour;
use crate::ops::nt_xent::golden::values_f32;

/// Small chunks and panels, the last ones shorter.
const SMALL: Cut = Cut { chunk_images_max: 100, panel_queries: 3 };

/// Whole numbers from −`largest` to `largest`: their products are exact in any order, and many are equal.
fn whole(seed: u64, n: usize, largest: f32) -> Vec<f32> {
    values_f32(seed, n, 1.0).iter().map(|value| (value * (largest + 0.5)).round()).collect()
}

fn sorted(search: &Search<'_>) -> Vec<Vec<Neighbour>> {
    let nearness = |query: &[f32], image: usize| {
        let row = &search.bank[image * search.width..][..search.width];
        let product: f32 = query.iter().zip(row).map(|(x, y)| x * y).sum();
        product - search.offsets.map_or(0.0, |offsets| offsets[image]) + 0.0
    };
    let of_query = |query: &[f32]| {
        let images = 0..(search.bank.len() / search.width) as u32;
        let mut all: Vec<Neighbour> =
            images.map(|image| Neighbour { nearness: nearness(query, image as usize), image }).collect();
        // Stable: equals keep the order of their index.
        all.sort_by(|left, right| right.nearness.total_cmp(&left.nearness));
        all.truncate(search.k.max(1));
        all
    };
    search.queries.chunks_exact(search.width).map(of_query).collect()
}

fn emulated(search: &Search<'_>, cut: Cut, order: Order) -> Vec<Vec<Neighbour>> {
    let mut emulator = Emulator::strict(order);
    emulator.load(&[SOURCE], Element::F32).expect("the kernels compile");
    let found = nearest_cut(search, cut, &mut emulator).expect("a search");
    let properties = emulator.properties();
    assert_eq!(properties.free_bytes, properties.memory_bytes, "everything is released");
    found
}

#[test]
fn agrees_with_a_full_sort() {
    for (n_images, largest) in [(1, 4.0), (7, 4.0), (350, 60.0), (350, 1.0)] {
        let (bank, queries) = (whole(1, n_images * 5, largest), whole(2, 7 * 5, largest));
        let offsets: Vec<f32> = bank.chunks_exact(5).map(|row| row.iter().map(|x| x * x).sum::<f32>() * 0.5).collect();
        for k in [0, 20, 101, 350] {
            for offsets in [None, Some(&offsets[..])] {
                let search = Search { bank: &bank, offsets, queries: &queries, width: 5, k };
                assert!(emulated(&search, SMALL, Order::FORWARD) == sorted(&search), "{n_images} images, k {k}");
            }
        }
    }
}

/// As it is cut in earnest: several chunks at once, many candidates a digit.
#[test]
fn agrees_with_a_full_sort_of_many() {
    let (bank, queries) = (whole(3, 9001 * 2, 3.0), whole(4, 3 * 2, 3.0));
    for k in [200, 1500] {
        let search = Search { bank: &bank, offsets: None, queries: &queries, width: 2, k };
        let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::Bf16);
        assert!(nearest(&search, &mut emulator).expect("a search") == sorted(&search), "k {k}");
    }
}

#[test]
fn bits_do_not_depend_on_order() {
    let (bank, queries) = (values_f32(5, 350 * 6, 1.0), values_f32(6, 4 * 6, 1.0));
    let search = Search { bank: &bank, offsets: None, queries: &queries, width: 6, k: 33 };
    let first = emulated(&search, SMALL, Order::FORWARD);
    for order in Order::SEVERAL {
        assert!(emulated(&search, SMALL, order) == first, "{order:?}");
    }
}

#[test]
fn the_lower_index_is_nearer_among_equals() {
    let bank = [0.6, 0.8].repeat(250);
    let search = Search { bank: &bank, offsets: None, queries: &[1.0, 1.0, -1.0, -1.0], width: 2, k: 120 };
    for found in emulated(&search, SMALL, Order::FORWARD) {
        let images: Vec<u32> = found.iter().map(|neighbour| neighbour.image).collect();
        assert_eq!(images, (0..120).collect::<Vec<u32>>());
    }
}

#[test]
fn nothing_and_too_much() {
    let mut emulator = Emulator::with(Order::FORWARD, &[SOURCE], Element::F32);
    let empty = Search { bank: &[], offsets: None, queries: &[1.0, 2.0], width: 1, k: 3 };
    assert_eq!(nearest(&empty, &mut emulator), Ok(vec![Vec::new(); 2]));
    let large = vec![0.0; NEIGHBOURS_MAX + 1];
    let search = Search { bank: &large, offsets: None, queries: &[1.0], width: 1, k: large.len() };
    assert!(matches!(nearest(&search, &mut emulator), Err(GpuError::NoPlan(_))));
    let mut small = Emulator::with_memory(10_000);
    assert!(matches!(nearest(&Search { k: 3, ..search }, &mut small), Err(GpuError::OutOfMemory { .. })));
    assert_eq!(small.properties().free_bytes, 10_000, "what was allocated before is released");
}
