//! Opens a file of a data set: opening a pipe would wait for ever, and a device never ends.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::path::Path;

/// # Errors
/// As [`File::open`], and for what is no regular file. That is asked twice: before it is opened, because opening a device
/// can do something, and of what was opened, because a path may lead elsewhere by then.
pub(super) fn open(path: &Path) -> io::Result<File> {
    check(&path.metadata()?)?;
    let file = options().open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

/// The whole content of a regular file of at most `bytes_max` bytes.
///
/// # Errors
/// As [`open`], and for a longer file.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let too_long = || io::Error::other(format!("it is larger than {bytes_max} bytes"));
    let file = open(path)?;
    if file.metadata()?.len() > bytes_max {
        return Err(too_long());
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max { Err(too_long()) } else { Ok(bytes) }
}

fn check(found: &Metadata) -> io::Result<()> {
    if found.is_file() {
        return Ok(());
    }
    let found = if found.is_dir() { "a folder" } else { "a pipe, a socket or a device" };
    Err(io::Error::other(format!("it is {found}: expected a regular file")))
}

/// A pipe that took the file's place since is opened without waiting for its other end.
#[cfg(unix)]
fn options() -> OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    options
}

#[cfg(not(unix))]
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true);
    options
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{open, read};

    fn make_pipe(path: &Path) {
        assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let [file, pipe] = ["file", "pipe"].map(|name| folder.path().join(name));
        fs::write(&file, "abc").unwrap();
        make_pipe(&pipe);
        assert!(open(&file).is_ok());
        let problem = |path: &Path| open(path).expect_err("no regular file").to_string();
        assert_eq!(problem(&pipe), "it is a pipe, a socket or a device: expected a regular file");
        assert_eq!(problem(Path::new("/dev/zero")), "it is a pipe, a socket or a device: expected a regular file");
        assert_eq!(problem(folder.path()), "it is a folder: expected a regular file");
    }

    #[test]
    fn no_more_is_read_than_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "abc").unwrap();
        assert_eq!(read(&file, 3).unwrap(), b"abc");
        assert_eq!(read(&file, 2).expect_err("too long").to_string(), "it is larger than 2 bytes");
        // A terabyte of nothing, as long as its metadata say.
        fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&file, 1 << 16).is_err());
    }

    /// Another process may put a pipe in the place of a file between the look and the opening: that must not wait.
    #[test]
    fn a_pipe_that_takes_the_place_of_a_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [path, file, pipe] = ["path", "file", "pipe"].map(|name| folder.path().join(name));
        let is_over = AtomicBool::new(false);
        fs::write(&path, "abc").unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let _ = fs::remove_file(&pipe);
                    make_pipe(&pipe);
                    fs::rename(&pipe, &path).unwrap();
                    fs::write(&file, "abc").unwrap();
                    fs::rename(&file, &path).unwrap();
                }
            });
            let (mut n_opened, mut n_refused, mut n_rounds) = (0, 0, 0);
            while n_rounds < 2_000 || (n_opened == 0 || n_refused == 0) && n_rounds < 2_000_000 {
                n_rounds += 1;
                match open(&path) {
                    Ok(_) => n_opened += 1,
                    Err(_) => n_refused += 1,
                }
            }
            is_over.store(true, Ordering::Relaxed);
            assert!(n_opened > 0 && n_refused > 0, "opened {n_opened} times, refused {n_refused} times");
        });
    }
}
