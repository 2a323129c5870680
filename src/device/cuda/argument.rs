//! A kernel's argument as the word it is handed over in.

use crate::device::gpu::Argument;

/// The value in the first bytes of a little-endian word, where a parameter of its type is read from.
pub fn word(argument: Argument) -> u64 {
    match argument {
        Argument::Address(address) => address.0,
        Argument::I32(value) => u64::from(value.cast_unsigned()),
        Argument::U32(value) => value.into(),
        Argument::U64(value) => value,
        Argument::F32(value) => value.to_bits().into(),
        Argument::F64(value) => value.to_bits(),
    }
}
