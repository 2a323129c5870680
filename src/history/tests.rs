use proptest::prelude::*;

use super::*;
use crate::content::Key;

/// Steps with every fourth one in detail, values without a pattern.
fn history(n_steps: u64) -> History {
    let noise = |step: u64, salt: u64| {
        let mixed = (step * 31 + salt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bits = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (bits >> 11) as f64 / (1u64 << 53) as f64
    };
    let steps = (0..n_steps).map(|step| StepMetrics {
        step,
        epoch: (step / 10) as u32,
        loss: 5.0 + noise(step, 1),
        learning_rate: 0.3 * noise(step, 2),
        detail: (step % 4 == 0).then(|| {
            Detail::from_values(
                [0, 1, 2, 3, 4, 5].map(|index| noise(step, 3 + index) - if index == 4 { 2.0 } else { 0.0 }),
                None,
            )
        }),
    });
    History { steps: steps.collect() }
}

/// The same of a loss of labels, whose first measured step a program without the last column kept.
fn history_of_labels(n_steps: u64) -> History {
    let mut history = history(n_steps);
    let details = history.steps.iter_mut().filter_map(|step| step.detail.as_mut()).skip(1);
    details.enumerate().for_each(|(index, detail)| detail.train_top1 = Some(index as f64 / 300.0));
    history
}

/// Makes a file whose bytes were changed pass for an undamaged one, unless the seal's own place was hit.
fn reseal(bytes: &mut [u8]) {
    let _ = parquet::seal(bytes);
}

#[test]
fn round_trip_of_any_length() {
    for n_steps in [0, 1, 3, 4, 5, 1000] {
        let written = history(n_steps);
        assert_eq!(History::from_parquet(&written.to_parquet().unwrap()).unwrap(), written, "{n_steps} steps");
    }
}

#[test]
fn the_accuracy_of_a_loss_of_labels_is_a_column_of_its_own() {
    for n_steps in [0, 4, 5, 9, 1000] {
        let written = history_of_labels(n_steps);
        let bytes = written.to_parquet().unwrap();
        assert_eq!(History::from_parquet(&bytes).unwrap(), written, "{n_steps} steps");
        assert_eq!(bytes == history(n_steps).to_parquet().unwrap(), n_steps < 5, "nothing measured, nothing written");
    }
    let table = parquet::read(SCHEMA_OF_LABELS, &history_of_labels(9).to_parquet().unwrap()).unwrap();
    let mut names = parquet::read(SCHEMA, &history(9).to_parquet().unwrap()).unwrap().schema();
    names.push("train_top1: f64".to_owned());
    assert_eq!(table.schema(), names);
    let mut columns = columns(history_of_labels(9).steps.iter());
    columns.pop();
    columns.push(Column::new(TRAIN_TOP1.into(), vec![Some(0.5); 9]));
    let error = History::from_parquet(&parquet::write(SCHEMA_OF_LABELS, columns).unwrap()).unwrap_err();
    assert!(matches!(error, HistoryError::LoneAccuracy { row: 1 }), "{error}");
}

#[test]
fn numbers_that_are_not_finite_survive_bit_by_bit() {
    for loss in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, f64::MIN_POSITIVE / 8.0] {
        let mut written = history(5);
        written.steps[2].loss = loss;
        let read = History::from_parquet(&written.to_parquet().unwrap()).unwrap();
        assert_eq!(read.steps[2].loss.to_bits(), loss.to_bits(), "{loss}");
    }
}

#[test]
fn equal_histories_have_equal_bytes() {
    let bytes = history(200).to_parquet().unwrap();
    assert_eq!(bytes, history(200).to_parquet().unwrap());
    // Moves with the versions of polars and zstd in Cargo.lock, and with nothing else.
    assert_eq!(Key::of_bytes(&bytes).to_string(), "62fe26d5d86014be577b8a8fb4d787ef421f204a52e46ae983579bee04ba3ee1");
}

#[test]
fn the_schema_is_pinned() {
    let table = parquet::read(SCHEMA, &history(5).to_parquet().unwrap()).unwrap();
    assert_eq!(
        table.schema(),
        [
            "step: u64",
            "epoch: u32",
            "loss: f64",
            "learning_rate: f64",
            "gradient_norm: f64",
            "parameter_norm: f64",
            "update_norm: f64",
            "alignment: f64",
            "uniformity: f64",
            "contrastive_top1: f64",
        ]
    );
}

#[test]
fn a_torn_detail_is_refused() {
    let floats = |values: [Option<f64>; 2]| values.to_vec();
    let mut columns = vec![
        Column::new("step".into(), vec![0u64, 1]),
        Column::new("epoch".into(), vec![0u32, 0]),
        Column::new("loss".into(), vec![1.0, 1.0]),
        Column::new("learning_rate".into(), vec![1.0, 1.0]),
    ];
    for name in DETAIL_COLUMNS {
        let second = (name != "alignment").then_some(1.0);
        columns.push(Column::new(name.into(), floats([Some(1.0), second])));
    }
    let error = History::from_parquet(&parquet::write(SCHEMA, columns).unwrap()).unwrap_err();
    assert!(matches!(error, HistoryError::TornDetail { row: 1, found: 5 }), "{error}");
}

#[test]
fn what_is_wrong_with_the_bytes_is_said() {
    let check = |bytes: &[u8], expected: &str| {
        let error = History::from_parquet(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} should contain {expected:?}");
    };
    let good = history(50).to_parquet().unwrap();
    check(b"", "not a table of this program");
    check(b"PAR1", "not a table of this program");
    check(&good[..good.len() - 1], "damaged");
    check(&[&good[..], b"x"].concat(), "damaged");
    let loss = |values: Vec<f64>| vec![Column::new("loss".into(), values)];
    check(&parquet::write("ablate.rows/1", loss(vec![1.0])).unwrap(), "expected a table of schema `ablate.history/1`");
    check(&parquet::write(SCHEMA, loss(vec![1.0])).unwrap(), "column `step`, found only loss");
    let steps = vec![Column::new("step".into(), vec![Some(0u64), None]), Column::new("epoch".into(), vec![0u32, 0])];
    check(&parquet::write(SCHEMA, steps).unwrap(), "expected a value in every row in column `step`");
    let steps = vec![Column::new("step".into(), vec![0.5])];
    check(&parquet::write(SCHEMA, steps).unwrap(), "expected values of type u64 in column `step`, found f64");
}

proptest! {
    /// No single changed byte and no cut goes unnoticed.
    #[test]
    fn damage_is_noticed(at in any::<prop::sample::Index>(), flip in 1u8..=255, cut in any::<prop::sample::Index>()) {
        let good = history(20).to_parquet().unwrap();
        let mut changed = good.clone();
        changed[at.index(good.len())] ^= flip;
        prop_assert!(History::from_parquet(&changed).is_err());
        prop_assert!(History::from_parquet(&good[..cut.index(good.len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(History::from_parquet(&bytes).is_err());
    }
}

/// The decoder panics on some forged footers, whose seals were made to fit; the caller sees an error.
#[test]
fn a_panic_of_the_decoder_is_an_error() {
    let good = history(20).to_parquet().unwrap();
    let length_at = good.len() - 8;
    let footer = u32::from_le_bytes(good[length_at..length_at + 4].try_into().unwrap()) as usize;
    let forged = (length_at - footer..length_at).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x01;
        reseal(&mut bytes);
        bytes
    });
    let caught = |bytes: Vec<u8>| matches!(History::from_parquet(&bytes), Err(HistoryError::Parquet(ParquetError::Panic(text))) if !text.is_empty());
    assert!(forged.map(caught).filter(|caught| *caught).count() > 0);
}
