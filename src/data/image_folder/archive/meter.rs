//! A reader that ends what was not asked for: an archive says how long its parts are, and lies if it wants to.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// What may still be read, shared with whoever holds the reader.
#[derive(Debug)]
pub(super) struct Meter {
    /// Until the end of the archive.
    total_bytes: Cell<u64>,
    /// Until the next [`Meter::allow`].
    allowed_bytes: Cell<u64>,
    at_end: Cell<bool>,
}

impl Meter {
    pub fn new(total_bytes: u64) -> Rc<Meter> {
        Rc::new(Meter { total_bytes: Cell::new(total_bytes), allowed_bytes: Cell::new(0), at_end: Cell::new(false) })
    }

    pub fn allow(&self, bytes: u64) {
        self.allowed_bytes.set(bytes);
    }

    pub fn total_is_spent(&self) -> bool {
        self.total_bytes.get() == 0
    }

    pub fn allowance_is_spent(&self) -> bool {
        self.allowed_bytes.get() == 0
    }

    /// Whether the bytes came to their end.
    pub fn at_end(&self) -> bool {
        self.at_end.get()
    }
}

pub(super) struct Metered<R> {
    pub reader: R,
    pub meter: Rc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.meter.total_bytes.get().min(self.meter.allowed_bytes.get());
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("longer than allowed"));
        }
        let length = usize::try_from(left).map_or(buffer.len(), |left| buffer.len().min(left));
        let n_read = self.reader.read(&mut buffer[..length])?;
        self.meter.total_bytes.update(|bytes| bytes - n_read as u64);
        self.meter.allowed_bytes.update(|bytes| bytes - n_read as u64);
        if n_read == 0 && !buffer.is_empty() {
            self.meter.at_end.set(true);
        }
        Ok(n_read)
    }
}
