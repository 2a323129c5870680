//! How much memory an .xz file asks for before it has unpacked a byte (the .xz file format, version 1.2, section 3.1).

/// What `xz -9` asks for, four times over.
pub(super) const BYTES_MAX: u64 = 256 << 20;

/// The stream's header and the longest header of a block.
pub(super) const HEADER_BYTES_MAX: u64 = 12 + 1024;

const STREAM_HEADER_BYTES: usize = 12;
const LZMA2: u64 = 0x21;

/// The dictionary of the first block, which `xz` gives to all blocks; none where the header is unreadable, of which the
/// reader will complain. A later block that asks for more gets its memory untouched, a page when it is first used, so it
/// takes no more than what it unpacks to.
pub(super) fn of_first_block(start: &[u8]) -> Option<u64> {
    let block = start.get(STREAM_HEADER_BYTES..)?;
    let header_bytes = (usize::from(*block.first()?) + 1) * 4;
    let mut fields = Fields { rest: block.get(1..header_bytes)? };
    let flags = fields.byte()?;
    for has_size in [flags & 0x40, flags & 0x80] {
        if has_size != 0 {
            fields.number()?;
        }
    }
    for _ in 0..=flags & 3 {
        let (filter, n_properties) = (fields.number()?, fields.number()?);
        let (properties, rest) = fields.rest.split_at_checked(usize::try_from(n_properties).ok()?)?;
        if filter == LZMA2 {
            return dictionary_bytes(*properties.first()?);
        }
        fields.rest = rest;
    }
    None
}

/// Section 5.3.1: two bits of mantissa, the rest exponent.
fn dictionary_bytes(coded: u8) -> Option<u64> {
    match coded {
        0..=39 => Some((2 | u64::from(coded & 1)) << (coded / 2 + 11)),
        40 => Some(u64::from(u32::MAX)),
        41.. => None,
    }
}

struct Fields<'a> {
    rest: &'a [u8],
}

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// Section 1.2: seven bits a byte, low ones first, at most nine bytes.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{dictionary_bytes, of_first_block};
    use proptest::prelude::*;

    fn start(block: &[u8]) -> Vec<u8> {
        [&[0; 12], block].concat()
    }

    #[test]
    fn the_dictionary_is_that_of_the_header() {
        let check =
            |block: &[u8], expected: Option<u64>| assert_eq!(of_first_block(&start(block)), expected, "{block:?}");
        check(&[2, 0, 0x21, 1, 8, 0, 0, 0, 0, 0, 0, 0], Some(1 << 16));
        check(&[2, 0, 0x21, 1, 28, 0, 0, 0, 0, 0, 0, 0], Some(64 << 20));
        check(&[2, 0, 0x21, 1, 40, 0, 0, 0, 0, 0, 0, 0], Some(u64::from(u32::MAX)));
        check(&[2, 0, 0x21, 1, 41, 0, 0, 0, 0, 0, 0, 0], None);
        // Both sizes first, then a filter before LZMA2.
        check(&[3, 0xC1, 0x80, 1, 5, 3, 1, 7, 0x21, 1, 10, 0, 0, 0, 0, 0], Some(1 << 17));
        check(&[2, 0, 0x21, 9, 8, 0], None);
        check(&[], None);
        assert_eq!(of_first_block(&[]), None);
    }

    #[test]
    fn sizes_are_those_of_the_format() {
        for (coded, bytes) in [(0, 4 << 10), (1, 6 << 10), (2, 8 << 10), (39, 3 << 30)] {
            assert_eq!(dictionary_bytes(coded), Some(bytes));
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(block in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = of_first_block(&start(&block));
        }
    }
}
