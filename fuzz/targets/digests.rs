//! The cache of digests: whatever is in its file, answers are sound and the next writer makes it whole again.
#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use ablate::data::{self, DigestCache};
use ablate::experiment::recipe::{Builtin, Dataset, Split};
use libfuzzer_sys::fuzz_target;

static FILE: LazyLock<PathBuf> = LazyLock::new(|| ablate_fuzz::scratch("digests").join("digests.json"));

fuzz_target!(|data: &[u8]| {
    let cache = DigestCache::at(&*FILE);
    fs::write(&*FILE, data).expect("a file in memory");
    let remembered = Dataset::Cifar10 { root: "/data".to_owned() };
    for split in [Split::Official, Split::HeldOut { fraction: 0.25, seed: 1 }] {
        if let Some(facts) = data::remembered(&remembered, split, &cache) {
            assert!(facts.n_train > 0 && facts.n_test > 0 && facts.n_classes > 0, "{facts:?}");
            assert!(facts.n_train.checked_add(facts.n_test).is_some(), "{facts:?}");
        }
    }
    // Written anew, the file is whole, and keeps what it knew where that was sound.
    let before = data::remembered(&remembered, Split::Official, &cache);
    let tiny = Dataset::Builtin(Builtin { n_classes: 2, train_per_class: 1, test_per_class: 1, seed: 3 });
    let found = data::facts(&tiny, Split::Official, Some(&cache)).expect("a built-in data set");
    assert_eq!((found.n_train, found.n_test, found.n_classes), (2, 2, 2));
    assert_eq!(data::remembered(&remembered, Split::Official, &cache), before);
    assert_eq!(data::facts(&tiny, Split::Official, Some(&cache)).expect("a built-in data set"), found);
});
