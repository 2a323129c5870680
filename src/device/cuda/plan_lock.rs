//! Which engine computes which convolution, as data: what is chosen once can be kept and asked for again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One of cuDNN's engines and how it is set; it means the same only to the same version of the library.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineChoice {
    /// The engine's global index.
    pub engine: i64,
    /// Value by the number of the knob's type.
    pub knobs: BTreeMap<u32, i64>,
}

/// Choices by the description of pass and sizes, such as `convolution 512x32x32x64 -> 64 3x3 s1 p1 bf16 forward`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PlanLock {
    pub choices: BTreeMap<String, EngineChoice>,
}

impl PlanLock {
    /// The one JSON of these choices: sorted, without white space.
    pub fn canonical_json(&self) -> String {
        serde_json::to_string(self).expect("maps of text and numbers are JSON")
    }

    /// BLAKE3 of the canonical JSON, 64 hexadecimal digits.
    pub fn digest(&self) -> String {
        blake3::hash(self.canonical_json().as_bytes()).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::{EngineChoice, PlanLock};

    const FORWARD: &str = "convolution 8x4x4x8 -> 8 3x3 s1 p1 f32 forward";
    const CANONICAL: &str = concat!(
        r#"{"convolution 8x4x4x8 -> 8 3x3 s1 p1 f32 forward":{"engine":62,"knobs":{"2":7,"10":-1}},"#,
        r#""convolution 8x4x4x8 -> 8 3x3 s1 p1 f32 weight gradient":{"engine":65,"knobs":{}}}"#
    );

    fn lock() -> PlanLock {
        let mut lock = PlanLock::default();
        let forward = EngineChoice { engine: 62, knobs: [(10, -1), (2, 7)].into() };
        let weight = "convolution 8x4x4x8 -> 8 3x3 s1 p1 f32 weight gradient".to_owned();
        lock.choices.insert(weight, EngineChoice { engine: 65, knobs: [].into() });
        lock.choices.insert(FORWARD.to_owned(), forward);
        lock
    }

    #[test]
    fn the_digest_is_of_the_one_json() {
        assert_eq!(lock().canonical_json(), CANONICAL);
        assert_eq!(lock().digest(), blake3::hash(CANONICAL.as_bytes()).to_hex().to_string());
        let mut other = lock();
        other.choices.get_mut(FORWARD).expect("it is there").knobs.insert(2, 8);
        assert_ne!(other.digest(), lock().digest());
    }

    #[test]
    fn order_and_white_space_of_a_written_lock_do_not_matter() {
        let written = r#" { "convolution 8x4x4x8 -> 8 3x3 s1 p1 f32 weight gradient": {"knobs": {}, "engine": 65},
            "convolution 8x4x4x8 -> 8 3x3 s1 p1 f32 forward": {"engine": 62, "knobs": {"10": -1, "2": 7}} } "#;
        let read: PlanLock = serde_json::from_str(written).expect("a lock");
        assert_eq!(read, lock());
        assert_eq!(read.digest(), lock().digest());
    }

    #[test]
    fn a_lock_with_something_unknown_in_it_is_refused() {
        let written = r#"{"convolution": {"engine": 62, "knobs": {}, "speed": 3}}"#;
        assert!(serde_json::from_str::<PlanLock>(written).is_err());
    }
}
