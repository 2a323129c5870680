//! Files that are not there yet: written under a temporary name, then given their own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::store::error::StoreError;
use crate::store::fs::Fs;
use crate::store::process::{Liveness, Process};

const PREFIX: &str = ".tmp-";

/// After this long a temporary file of another host is nobody's.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// A file under a temporary name, removed when dropped.
pub(super) struct Temporary<'a> {
    fs: &'a dyn Fs,
    path: PathBuf,
    renamed: bool,
}

impl<'a> Temporary<'a> {
    /// Writes `parts` one after the other to a new file in `directory`, which is created if need be.
    pub fn write(
        fs: &'a dyn Fs,
        directory: &Path,
        parts: &[&[u8]],
        durable: bool,
    ) -> Result<Temporary<'a>, StoreError> {
        let path = directory.join(name());
        let mut file = match fs.create_new(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fs.create_directory(directory).map_err(StoreError::io("create directory", directory))?;
                fs.create_new(&path)
            }
            outcome => outcome,
        }
        .map_err(StoreError::io("create", &path))?;
        let temporary = Temporary { fs, path, renamed: false };
        let path = &temporary.path;
        for part in parts {
            fs.write(&mut file, part).map_err(StoreError::io("write", path))?;
        }
        let expected = parts.iter().map(|part| part.len() as u64).sum();
        let found = fs.stat(path).map_err(StoreError::io("read the length of", path))?.bytes;
        if found != expected {
            return Err(StoreError::ShortWrite { path: path.clone(), expected, found });
        }
        if durable {
            fs.sync(&file).map_err(StoreError::io("sync", path))?;
        }
        Ok(temporary)
    }

    /// Takes the name `target`, in place of whatever has it. A directory there is renamed, not lost.
    pub fn replace(mut self, target: &Path) -> Result<(), StoreError> {
        let outcome = match self.fs.rename(&self.path, target) {
            Err(_) if self.fs.stat(target).is_ok_and(|stat| !stat.is_file) => {
                let aside = target.with_added_extension("displaced").with_added_extension(name());
                self.fs.rename(target, &aside).map_err(StoreError::io("rename", target))?;
                self.fs.rename(&self.path, target)
            }
            outcome => outcome,
        };
        outcome.map_err(StoreError::io("rename a temporary file to", target))?;
        self.renamed = true;
        Ok(())
    }

    /// Takes the name `target` as well if nothing has it; says whether it did.
    pub fn claim_name(&self, target: &Path) -> Result<bool, StoreError> {
        match self.fs.link(&self.path, target) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(StoreError::io("link a temporary file to", target)(error)),
        }
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            // What cannot be removed now is removed once this process is dead.
            let _ = self.fs.remove(&self.path);
        }
    }
}

/// A name no other file has had: the count within this process, then the process.
fn name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Process { host, pid, start_ticks } = Process::current();
    format!("{PREFIX}{}-{pid}-{start_ticks}-{host}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Who wrote the temporary file of this name; `None` for any other file.
fn writer(name: &str) -> Option<Process> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(4, '-').skip(1);
    let pid = parts.next()?.parse().ok()?;
    let start_ticks = parts.next()?.parse().ok()?;
    Some(Process { host: parts.next()?.to_owned(), pid, start_ticks })
}

pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// Removes what dead processes left in `directory`. What cannot be removed does no harm.
pub(super) fn remove_leftovers(fs: &dyn Fs, directory: &Path) {
    for name in fs.list(directory).unwrap_or_default().into_iter().filter(|name| is_temporary(name)) {
        let path = directory.join(name);
        if is_abandoned(fs, &path) {
            let _ = fs.remove(&path);
        }
    }
}

/// Whether the process that wrote a temporary file is dead, or silent on another host.
pub(super) fn is_abandoned(fs: &dyn Fs, path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    match name.and_then(writer).map(|writer| writer.liveness()) {
        None | Some(Liveness::Alive) => false,
        Some(Liveness::Dead) => true,
        Some(Liveness::Elsewhere) => age(fs, path).is_some_and(|age| age > ABANDONED_AFTER),
    }
}

/// How long ago a file was modified; a time to come is now.
pub(super) fn age(fs: &dyn Fs, path: &Path) -> Option<Duration> {
    let modified = fs.stat(path).ok()?.modified;
    Some(SystemTime::now().duration_since(modified).unwrap_or_default())
}
