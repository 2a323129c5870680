//! Compiled kernels by what they were made of, kept between processes in the user's cache folder.
//!
//! An entry is the BLAKE3 digest of the machine code, then the code. Nothing rests on the cache: an entry that is missing or
//! damaged is made anew, a folder that cannot be written costs time alone.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::device::cuda::search::Variable;

const DIGEST_BYTES: usize = 32;

/// `$XDG_CACHE_HOME/ablate/cubin`, or the same below `$HOME/.cache`; none where there is neither.
pub fn folder(variable: Variable) -> Option<PathBuf> {
    // The XDG convention: a path that is not absolute is to be ignored.
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(base.join("ablate").join("cubin"))
}

/// The key of what is made of these parts. Each is preceded by its length, so that no two lists of parts run together.
pub fn key(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// The entry's code; none if there is none or it is damaged.
pub fn read(folder: &Path, key: &str) -> Option<Vec<u8>> {
    let bytes = std::fs::read(entry(folder, key)).ok()?;
    let (digest, code) = bytes.split_at_checked(DIGEST_BYTES)?;
    (digest == blake3::hash(code).as_bytes()).then(|| code.to_vec())
}

/// Keeps an entry if it can: whole or not at all, whoever else writes the same one.
pub fn write(folder: &Path, key: &str, code: &[u8]) {
    static WRITTEN: AtomicU64 = AtomicU64::new(0);
    let n = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let path = entry(folder, key);
    let unfinished = path.with_extension(format!("{}-{n}.tmp", std::process::id()));
    let written = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::File::create(&unfinished))
        .and_then(|mut file| {
            file.write_all(blake3::hash(code).as_bytes())?;
            file.write_all(code)
        })
        .and_then(|()| std::fs::rename(&unfinished, &path));
    if written.is_err() {
        // Nothing rests on the cache, nor on this going well.
        let _ = std::fs::remove_file(&unfinished);
    }
}

fn entry(folder: &Path, key: &str) -> PathBuf {
    folder.join(format!("{key}.cubin"))
}
