//! The JSON of a record: what is read is what is written, and what follows from it is defined.
#![no_main]

use ablate::record::{Record, Stage};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(record) = serde_json::from_slice::<Record>(data) else { return };
    let text = serde_json::to_string(&record).expect("a record is JSON");
    let again: Record = serde_json::from_str(&text).expect("what was written");
    assert_eq!(again, record);
    match &record.stage {
        Stage::Pretrain(pretrain) => assert!(pretrain.images_per_s().is_none_or(f64::is_finite)),
        Stage::Evaluation(_) | Stage::Failure(_) => {}
    }
});
