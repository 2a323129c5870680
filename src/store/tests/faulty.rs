//! A real disk that can be told to fail, and that knows what a power cut would take.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::store::fs::{Fs, RealFs, Stat};

/// A call of [`Fs`] that is about to be made.
pub struct Call<'a> {
    /// Counted from 0.
    pub number: u64,
    pub operation: &'static str,
    /// Empty for what is done to an open file.
    pub path: &'a Path,
}

/// What happens to a call.
pub enum Fate {
    Done,
    /// A write says it is done and is half.
    Short,
    Failed(io::Error),
}

type Rule = Box<dyn Fn(Call) -> Fate + Send + Sync>;

/// Something the disk has not promised to remember.
pub enum Unsynced {
    NewDirectory(PathBuf),
    NewName(PathBuf),
    Renamed { from: PathBuf, to: PathBuf, replaced: Option<Vec<u8>> },
    Removed(PathBuf, Vec<u8>),
}

impl Unsynced {
    /// The name whose directory must be synced.
    fn name(&self) -> &Path {
        match self {
            Unsynced::NewDirectory(path) | Unsynced::NewName(path) | Unsynced::Removed(path, _) => path,
            Unsynced::Renamed { to, .. } => to,
        }
    }

    pub fn undo(&self) {
        match self {
            Unsynced::NewDirectory(path) => fs::remove_dir_all(path).unwrap(),
            Unsynced::NewName(path) => fs::remove_file(path).unwrap(),
            Unsynced::Removed(path, bytes) => fs::write(path, bytes).unwrap(),
            Unsynced::Renamed { from, to, replaced } => {
                fs::rename(to, from).unwrap();
                replaced.iter().for_each(|bytes| fs::write(to, bytes).unwrap());
            }
        }
    }
}

#[derive(Default)]
pub struct Cache {
    pub names: Vec<Unsynced>,
    /// Files by inode whose bytes are not synced.
    pub contents: BTreeSet<u64>,
}

/// A real disk under a rule. It syncs nothing, and so is quick.
pub struct FaultyFs {
    rule: Rule,
    pub calls: Arc<AtomicU64>,
    pub cache: Arc<Mutex<Cache>>,
}

impl FaultyFs {
    pub fn new(rule: impl Fn(Call) -> Fate + Send + Sync + 'static) -> FaultyFs {
        FaultyFs { rule: Box::new(rule), calls: Arc::default(), cache: Arc::default() }
    }

    pub fn sound() -> Box<FaultyFs> {
        Box::new(FaultyFs::new(|_| Fate::Done))
    }

    fn fate(&self, operation: &'static str, path: &Path) -> Fate {
        (self.rule)(Call { number: self.calls.fetch_add(1, Ordering::Relaxed), operation, path })
    }

    fn call(&self, operation: &'static str, path: &Path) -> io::Result<()> {
        match self.fate(operation, path) {
            Fate::Done | Fate::Short => Ok(()),
            Fate::Failed(error) => Err(error),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap()
    }
}

impl Fs for FaultyFs {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.call("read", path).and_then(|()| RealFs.read(path))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.call("stat", path).and_then(|()| RealFs.stat(path))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.call("list", directory).and_then(|()| RealFs.list(directory))
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.call("create_directory", path)?;
        let new: Vec<PathBuf> = path.ancestors().take_while(|path| !path.exists()).map(Path::to_owned).collect();
        RealFs.create_directory(path)?;
        self.cache().names.extend(new.into_iter().rev().map(Unsynced::NewDirectory));
        Ok(())
    }

    fn create_new(&self, path: &Path) -> io::Result<File> {
        self.call("create_new", path)?;
        let file = RealFs.create_new(path)?;
        self.cache().names.push(Unsynced::NewName(path.to_owned()));
        self.cache().contents.insert(file.metadata()?.ino());
        Ok(file)
    }

    /// A write that fails has written half.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        match self.fate("write", Path::new("")) {
            Fate::Done => RealFs.write(file, bytes),
            Fate::Short => RealFs.write(file, &bytes[..bytes.len() / 2]),
            Fate::Failed(error) => RealFs.write(file, &bytes[..bytes.len() / 2]).and(Err(error)),
        }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.call("sync", Path::new(""))?;
        self.cache().contents.remove(&file.metadata()?.ino());
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.call("sync_directory", path)?;
        self.cache().names.retain(|unsynced| unsynced.name().parent() != Some(path));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename", to)?;
        let replaced = fs::read(to).ok();
        RealFs.rename(from, to)?;
        self.cache().names.push(Unsynced::Renamed { from: from.to_owned(), to: to.to_owned(), replaced });
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link", to)?;
        RealFs.link(from, to)?;
        self.cache().names.push(Unsynced::NewName(to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call("remove", path)?;
        let bytes = fs::read(path)?;
        RealFs.remove(path)?;
        self.cache().names.push(Unsynced::Removed(path.to_owned(), bytes));
        Ok(())
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        self.call("touch", path).and_then(|()| RealFs.touch(path))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<File>> {
        self.call("try_lock", path).and_then(|()| RealFs.try_lock(path))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.call("free_bytes", path).and_then(|()| RealFs.free_bytes(path))
    }
}
