//! A plain table as one Parquet file in memory: zstd pages, one schema name, one seal.
//!
//! The bytes are a function of the columns alone: pages are written by one thread, in order, at a fixed level of
//! compression. The footer's key-value metadata holds `ablate.schema` (which table this is, and its version) and
//! `ablate.blake3`, the seal: the BLAKE3 digest of the whole file with the seal's own 64 digits read as `0`. Other readers
//! ignore both. The seal is checked before anything is decoded, so a torn or damaged file never reaches the decoder.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use polars::prelude::{
    ChunkedArray, Column, DataFrame, DataType, KeyValueMetadata, ParallelStrategy, ParquetCompression, ParquetReader,
    ParquetWriter, PolarsError, SerReader,
};

use crate::content::Key;

const SCHEMA_KEY: &str = "ablate.schema";
const SEAL_KEY: &str = "ablate.blake3";
const SEAL_DIGITS: usize = 64;
/// What stands before the seal's digits in the footer: the key, then Thrift's compact header of a string of 64 bytes.
const SEAL_LEAD: &[u8] = b"ablate.blake3\x18\x40";
const UNSEALED: &[u8; SEAL_DIGITS] = &[b'0'; SEAL_DIGITS];
/// Far above any table written here; a footer that claims more is not believed.
const MAX_ROWS: usize = 1 << 28;

/// Why a table could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    #[error("not a table of this program: found no `{SEAL_KEY}` in the file's {bytes} bytes")]
    NotSealed { bytes: usize },
    #[error("the file is damaged: expected digest {expected}, found {found}; delete it and compute it again")]
    Damaged { expected: String, found: String },
    #[error("expected a table of schema `{expected}`, found `{found}`; use the version of the program that wrote it")]
    Schema { expected: String, found: String },
    #[error("expected {expected} in column `{column}`, found {found}")]
    Column { column: String, expected: String, found: String },
    #[error("the file claims {rows} rows; expected at most {MAX_ROWS}")]
    TooManyRows { rows: usize },
    #[error("the Parquet decoder gave up on a sealed file: {0}")]
    Panic(String),
    #[error("Parquet: {0}")]
    Polars(#[from] PolarsError),
}

/// The columns as a sealed Parquet file. `schema` names the table and its version: `ablate.history/1`.
///
/// # Errors
/// On columns of different lengths or of the same name.
pub fn write(schema: &str, columns: Vec<Column>) -> Result<Vec<u8>, ParquetError> {
    let mut frame = DataFrame::new_infer_height(columns)?;
    let unsealed = String::from_utf8_lossy(UNSEALED).into_owned();
    let metadata = vec![(SCHEMA_KEY.to_owned(), schema.to_owned()), (SEAL_KEY.to_owned(), unsealed)];
    let mut bytes = Vec::new();
    ParquetWriter::new(&mut bytes)
        .with_compression(ParquetCompression::Zstd(None))
        .with_row_group_size(Some(MAX_ROWS))
        .set_parallel(false)
        .with_key_value_metadata(Some(KeyValueMetadata::from_static(metadata)))
        .finish(&mut frame)?;
    seal(&mut bytes)?;
    Ok(bytes)
}

/// Reads what [`write`] wrote under the same schema.
///
/// # Errors
/// On bytes that are not such a file, or were damaged. A file that was forged, seal and all, may make polars panic: that is
/// caught and is an error too, though its message still goes to the panic hook. It may also make polars ask for more memory
/// than there is, which ends the process; so read only files of which the digest is known, as the store's are.
pub fn read(schema: &str, bytes: &[u8]) -> Result<Table, ParquetError> {
    check_seal(bytes)?;
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(schema, bytes)));
    decoded.unwrap_or_else(|panic| Err(ParquetError::Panic(panic_text(&*panic))))
}

/// Whether the bytes are a whole table of this schema, as its seal and its footer say; nothing is decoded.
pub fn is_whole(schema: &str, bytes: &[u8]) -> bool {
    // As the seal's: the key, then Thrift's compact header of a string.
    let lead = [SCHEMA_KEY.as_bytes(), &[0x18, schema.len() as u8], schema.as_bytes()].concat();
    check_seal(bytes).is_ok() && bytes.windows(lead.len()).rev().any(|window| window == lead)
}

fn decode(schema: &str, bytes: &[u8]) -> Result<Table, ParquetError> {
    let mut reader = ParquetReader::new(Cursor::new(bytes)).read_parallel(ParallelStrategy::None);
    let metadata = reader.get_metadata()?;
    let pairs = metadata.key_value_metadata().iter().flatten();
    let found = pairs.filter(|pair| pair.key == SCHEMA_KEY).find_map(|pair| pair.value.clone()).unwrap_or_default();
    if found != schema {
        return Err(ParquetError::Schema { expected: schema.to_owned(), found });
    }
    let rows = metadata.num_rows;
    if rows > MAX_ROWS {
        return Err(ParquetError::TooManyRows { rows });
    }
    let frame = reader.set_rechunk(true).finish()?;
    match frame.columns().iter().find(|column| column.len() != frame.height()) {
        Some(column) => Err(ParquetError::Column {
            column: column.name().to_string(),
            expected: format!("{} rows", frame.height()),
            found: format!("{}", column.len()),
        }),
        None => Ok(Table { frame }),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}

/// Where the seal's digits begin.
fn seal_start(bytes: &[u8]) -> Result<usize, ParquetError> {
    let sealed = SEAL_LEAD.len() + SEAL_DIGITS;
    let lead = bytes.windows(sealed).rposition(|window| window.starts_with(SEAL_LEAD));
    lead.map(|at| at + SEAL_LEAD.len()).ok_or(ParquetError::NotSealed { bytes: bytes.len() })
}

fn digest(bytes: &[u8], seal_start: usize) -> Key {
    let mut hasher = Key::hasher();
    hasher.update(&bytes[..seal_start]);
    hasher.update(UNSEALED);
    hasher.update(&bytes[seal_start + SEAL_DIGITS..]);
    hasher.finish()
}

pub(super) fn seal(bytes: &mut [u8]) -> Result<(), ParquetError> {
    let start = seal_start(bytes)?;
    let digits = digest(bytes, start).to_string();
    bytes[start..start + SEAL_DIGITS].copy_from_slice(digits.as_bytes());
    Ok(())
}

fn check_seal(bytes: &[u8]) -> Result<(), ParquetError> {
    let start = seal_start(bytes)?;
    let found = digest(bytes, start).to_string();
    let expected = String::from_utf8_lossy(&bytes[start..start + SEAL_DIGITS]).into_owned();
    if found == expected { Ok(()) } else { Err(ParquetError::Damaged { expected, found }) }
}

/// A table that was read; columns are asked for by name and type.
#[derive(Debug, Clone)]
pub struct Table {
    frame: DataFrame,
}

impl Table {
    pub fn n_rows(&self) -> usize {
        self.frame.height()
    }

    /// The columns' names, in the file's order.
    pub fn names(&self) -> Vec<String> {
        self.frame.columns().iter().map(|column| column.name().to_string()).collect()
    }

    /// `name: type` of every column, in the file's order.
    pub fn schema(&self) -> Vec<String> {
        self.frame.columns().iter().map(|column| format!("{}: {}", column.name(), column.dtype())).collect()
    }

    /// # Errors
    /// These and the next: when there is no such column, or it is of another type.
    pub fn booleans(&self, name: &str) -> Result<Vec<Option<bool>>, ParquetError> {
        let column = self.column(name, &DataType::Boolean)?;
        Ok(column.bool()?.iter().collect())
    }

    pub fn u32s(&self, name: &str) -> Result<Vec<Option<u32>>, ParquetError> {
        let column = self.column(name, &DataType::UInt32)?;
        Ok(values(column.u32()?))
    }

    pub fn u64s(&self, name: &str) -> Result<Vec<Option<u64>>, ParquetError> {
        let column = self.column(name, &DataType::UInt64)?;
        Ok(values(column.u64()?))
    }

    pub fn f64s(&self, name: &str) -> Result<Vec<Option<f64>>, ParquetError> {
        let column = self.column(name, &DataType::Float64)?;
        Ok(values(column.f64()?))
    }

    pub fn texts(&self, name: &str) -> Result<Vec<Option<String>>, ParquetError> {
        let column = self.column(name, &DataType::String)?;
        Ok(column.str()?.iter().map(|text| text.map(str::to_owned)).collect())
    }

    fn column(&self, name: &str, expected: &DataType) -> Result<&Column, ParquetError> {
        let refused = |found: String| ParquetError::Column {
            column: name.to_owned(),
            expected: format!("values of type {expected}"),
            found,
        };
        let column = self.frame.column(name).map_err(|_| refused(format!("only {}", self.names().join(", "))))?;
        if column.dtype() == expected { Ok(column) } else { Err(refused(column.dtype().to_string())) }
    }
}

fn values<T>(column: &ChunkedArray<T>) -> Vec<Option<T::Native>>
where
    T: polars::prelude::PolarsNumericType,
{
    column.iter().collect()
}

/// The values of a column in which nothing may be missing.
///
/// # Errors
/// When something is.
pub fn required<T>(name: &str, values: Vec<Option<T>>) -> Result<Vec<T>, ParquetError> {
    let missing = || ParquetError::Column {
        column: name.to_owned(),
        expected: "a value in every row".to_owned(),
        found: "a missing one".to_owned(),
    };
    values.into_iter().collect::<Option<Vec<T>>>().ok_or_else(missing)
}
