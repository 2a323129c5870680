//! Names by content: canonical bytes of a meaning, hashed with BLAKE3.
//!
//! A [`Value`] is what a thing means, free of how it was written. Its canonical bytes are tagged, length-prefixed and
//! independent of field order in the source; two values have equal bytes exactly when they are equal.
//! Nothing here knows what an experiment is.

use std::fmt;
use std::str::FromStr;

/// A 256-bit content hash; its only spelling is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    /// The hash of raw bytes (a blob, decoded pixels).
    pub fn of_bytes(bytes: &[u8]) -> Key {
        Key(*blake3::hash(bytes).as_bytes())
    }

    /// The hash of a meaning under a domain such as `ablate/pretrain/k1`; equal values of two domains never share a key.
    pub fn of_value(domain: &str, value: &Value) -> Key {
        let mut bytes = Vec::new();
        Value::Text(domain.to_owned()).encode(&mut bytes);
        value.encode(&mut bytes);
        Key::of_bytes(&bytes)
    }

    /// Streams bytes into a key without holding them.
    pub fn hasher() -> KeyHasher {
        KeyHasher(blake3::Hasher::new())
    }

    /// The first 12 digits, for people.
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

/// An incremental hash.
pub struct KeyHasher(blake3::Hasher);

impl KeyHasher {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(&self) -> Key {
        Key(*self.0.finalize().as_bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Every file of a store is named by one, so this is done thousands of times a table.
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        f.write_str(std::str::from_utf8(&digits).expect("digits are ASCII"))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({self})")
    }
}

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a key: expected 64 lower-case hexadecimal digits")]
pub struct NotAKey(String);

impl FromStr for Key {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Key, NotAKey> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let refused = || NotAKey(text.chars().take(80).collect());
        if text.len() != 64 {
            return Err(refused());
        }
        let mut key = [0; 32];
        for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0]).zip(digit(pair[1])).map(|(high, low)| high << 4 | low).ok_or_else(refused)?;
        }
        Ok(Key(key))
    }
}

impl serde::Serialize for Key {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A meaning: what is hashed, printed beside a record and compared field by field.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Bool(bool),
    Integer(i128),
    /// Always finite; −0 is written as 0.
    Float(f64),
    Text(String),
    Key(Key),
    /// Ordered: the order of augmentations is meaning.
    List(Vec<Value>),
    /// A variant or struct by its declared tag, with named fields; field order is not meaning.
    Record(&'static str, Vec<(&'static str, Value)>),
}

impl Value {
    /// # Panics
    /// On a number that is not finite: a checked run holds none.
    pub fn float(number: f64) -> Value {
        assert!(number.is_finite(), "{number} has no canonical form");
        Value::Float(if number == 0.0 { 0.0 } else { number })
    }

    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// A variant without fields.
    pub fn tag(tag: &'static str) -> Value {
        Value::Record(tag, Vec::new())
    }

    /// Appends the canonical bytes: a type byte, then a length or fixed-width payload, little endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, text: &str| {
            out.extend((text.len() as u64).to_le_bytes());
            out.extend(text.as_bytes());
        };
        match self {
            Value::Bool(value) => out.extend([b'b', u8::from(*value)]),
            Value::Integer(value) => {
                out.push(b'i');
                out.extend(value.to_le_bytes());
            }
            Value::Float(value) => {
                out.push(b'f');
                out.extend(value.to_bits().to_le_bytes());
            }
            Value::Text(value) => {
                out.push(b't');
                text(out, value);
            }
            Value::Key(value) => {
                out.push(b'k');
                out.extend(value.0);
            }
            Value::List(items) => {
                out.push(b'l');
                out.extend((items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.encode(out));
            }
            Value::Record(tag, fields) => {
                out.push(b'r');
                text(out, tag);
                out.extend((fields.len() as u64).to_le_bytes());
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_by_key(|(name, _)| *name);
                for (name, value) in sorted {
                    text(out, name);
                    value.encode(out);
                }
            }
        }
    }

    /// One `path = value` pair a leaf, in declared order: `train.optimizer.momentum = 0.9`.
    /// A variant's tag is a leaf of its own, at the path of the variant.
    pub fn leaves(&self) -> Vec<(String, String)> {
        let mut out = Vec::new();
        self.collect_leaves(String::new(), &mut out);
        out
    }

    fn collect_leaves(&self, path: String, out: &mut Vec<(String, String)>) {
        let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match self {
            Value::Bool(value) => out.push((path, value.to_string())),
            Value::Integer(value) => out.push((path, value.to_string())),
            Value::Float(value) => out.push((path, format!("{value:?}"))),
            Value::Text(value) => out.push((path, format!("{value:?}"))),
            Value::Key(value) => out.push((path, value.to_string())),
            Value::List(items) => {
                out.push((path.clone(), format!("[{}]", items.len())));
                for (index, item) in items.iter().enumerate() {
                    item.collect_leaves(format!("{path}[{index}]"), out);
                }
            }
            Value::Record(tag, fields) => {
                if !tag.is_empty() {
                    out.push((path.clone(), (*tag).to_owned()));
                }
                for (name, value) in fields {
                    value.collect_leaves(join(name), out);
                }
            }
        }
    }

    /// The printable pre-image of a key: the domain, then one leaf a line.
    pub fn preimage(&self, domain: &str) -> String {
        let mut text = format!("{domain}\n");
        for (path, value) in self.leaves() {
            text.push_str(&format!("{path} = {value}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let mut out = Vec::new();
        value.encode(&mut out);
        out
    }

    #[test]
    fn a_key_has_one_spelling() {
        let key = Key::of_bytes(b"abc");
        assert_eq!(key.to_string(), "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85");
        assert_eq!(key.to_string().parse(), Ok(key));
        for wrong in ["", "6437", &key.to_string().to_uppercase(), &format!("{key}0"), &"é".repeat(32)] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong}");
            assert!(serde_json::from_str::<Key>(&format!("{wrong:?}")).is_err());
        }
    }

    #[test]
    fn domains_and_field_order() {
        let one = Value::Record("A", vec![("x", Value::Integer(1)), ("y", Value::float(0.5))]);
        let other = Value::Record("A", vec![("y", Value::float(0.5)), ("x", Value::Integer(1))]);
        assert_eq!(Key::of_value("d", &one), Key::of_value("d", &other));
        assert_ne!(Key::of_value("d", &one), Key::of_value("e", &one));
        assert_eq!(bytes(&Value::float(-0.0)), bytes(&Value::float(0.0)));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::Bool),
            any::<i128>().prop_map(Value::Integer),
            (-1e300..1e300f64).prop_map(Value::float),
            ".{0,6}".prop_map(Value::Text),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                (prop::sample::select(vec!["A", "AB", ""]), inner.clone(), inner)
                    .prop_map(|(tag, a, b)| Value::Record(tag, vec![("a", a), ("ab", b)])),
            ]
        })
    }

    proptest! {
        #[test]
        fn equal_bytes_mean_equal_values(a in any_value(), b in any_value()) {
            prop_assert_eq!(bytes(&a) == bytes(&b), a == b);
            prop_assert_eq!(bytes(&a), bytes(&a.clone()));
        }

        #[test]
        fn no_encoding_is_a_prefix_of_another(a in any_value(), b in any_value()) {
            let (a_bytes, b_bytes) = (bytes(&a), bytes(&b));
            prop_assert!(a == b || !b_bytes.starts_with(&a_bytes));
        }
    }
}
