//! A file that proves itself: one header line with its kind, format and the digest of all that follows.

use crate::content::Key;

/// Written into every sealed file; a reader refuses what it does not know.
pub(super) const FORMAT: u32 = 1;

/// Longer than any header.
const HEADER_BYTES_MAX: usize = 128;

/// `kind 1 <digest>`, with the line's end: what to write before `payload`.
pub(super) fn header(kind: &str, payload: &[u8]) -> String {
    format!("{kind} {FORMAT} {}\n", Key::of_bytes(payload))
}

/// The payload of a sealed file, or what is wrong with it, worded to follow the file's name.
pub(super) fn open<'a>(kind: &str, bytes: &'a [u8]) -> Result<&'a [u8], String> {
    if bytes.is_empty() {
        return Err("is empty".to_owned());
    }
    let (header, payload) = split(bytes).ok_or_else(|| format!("has no `{kind}` header"))?;
    let (found_kind, format, digest) = header;
    if found_kind != kind {
        return Err(format!("begins with `{found_kind}`, expected `{kind}`"));
    }
    if format != FORMAT.to_string() {
        return Err(format!("has format `{format}`, expected `{FORMAT}`"));
    }
    let found = Key::of_bytes(payload).to_string();
    if found != digest {
        return Err(format!("has content with digest `{found}`, expected `{digest}`"));
    }
    Ok(payload)
}

type Header<'a> = (&'a str, &'a str, &'a str);

fn split(bytes: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let end = bytes.iter().take(HEADER_BYTES_MAX).position(|byte| *byte == b'\n')?;
    let mut words = std::str::from_utf8(&bytes[..end]).ok()?.split(' ');
    let header = (words.next()?, words.next()?, words.next()?);
    words.next().is_none().then_some((header, &bytes[end + 1..]))
}
