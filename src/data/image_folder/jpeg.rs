//! Whether a JPEG file is whole: the decoder fills what is cut off with grey and says nothing.
//!
//! Markers are walked as ITU-T T.81, annex B lays them out: segments carry their length, and inside a scan a byte FF is
//! followed by 00 (stuffing), a restart marker or the marker that ends the scan.

pub(super) const START: [u8; 2] = [0xFF, 0xD8];

const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

/// Whether the end-of-image marker is reached; what follows it does not matter.
pub(super) fn is_complete(bytes: &[u8]) -> bool {
    let mut at = START.len();
    while let Some(marker_at) = next_marker(bytes, at) {
        let marker = bytes[marker_at];
        if marker == END_OF_IMAGE {
            return true;
        }
        let Some(length) = segment_length(bytes, marker_at + 1) else { return false };
        at = marker_at + 1 + length;
        if marker == START_OF_SCAN {
            at = scan_end(bytes, at);
        }
    }
    false
}

/// The index of the first byte after `at` that is a marker's code: behind at least one FF and neither FF nor 00.
fn next_marker(bytes: &[u8], at: usize) -> Option<usize> {
    let tail = bytes.get(at..)?;
    let found = tail.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF))?;
    Some(at + found + 1)
}

/// The length counts its own two bytes.
fn segment_length(bytes: &[u8], at: usize) -> Option<usize> {
    let field = bytes.get(at..at + 2)?;
    Some(usize::from(u16::from_be_bytes([field[0], field[1]])).max(2))
}

/// The index of the FF of the marker behind the entropy-coded data, or the end of the bytes.
fn scan_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(marker_at) = next_marker(bytes, at) {
        if !matches!(bytes[marker_at], 0xD0..=0xD7) {
            return marker_at - 1;
        }
        at = marker_at + 1;
    }
    bytes.len()
}
