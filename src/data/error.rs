//! Why a data set cannot be used, and what to do about it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Every way in which a data set can be missing, damaged or not fit its split.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The data set or a file of it is not there. The first line says what and where; the rest how to get it.
    #[error("{} is missing: there is no `{}`\n{}", source_name(*layout), path.display(), layout.help(root))]
    Missing { layout: Layout, root: PathBuf, path: PathBuf },

    #[error("cannot read `{}`: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error(
        "`{}` is empty: expected at least one record of {record_bytes} bytes; unpack the archive again",
        path.display()
    )]
    CifarEmpty { path: PathBuf, record_bytes: u64 },

    #[error(
        "`{}` has {bytes} bytes: expected a multiple of {record_bytes}, the size of a record; \
         the file is cut off or not of the binary version, so unpack the archive again",
        path.display()
    )]
    CifarSize { path: PathBuf, bytes: u64, record_bytes: u64 },

    #[error(
        "`{}` has {n_records} records: expected at most {expected}, as many as the official file; \
         the file is of another data set, so unpack the archive again",
        path.display()
    )]
    CifarTooLong { path: PathBuf, n_records: u64, expected: u64 },

    /// Records are counted from 0.
    #[error(
        "record {record} of `{}` has label {label}: expected a label below {n_classes}; \
         the file is damaged or of another data set, so unpack the archive again",
        path.display()
    )]
    CifarLabel { path: PathBuf, record: u64, label: u8, n_classes: u32 },

    #[error(
        "`{}` holds {found} class names: expected {expected}, one a line; unpack the archive again",
        path.display()
    )]
    CifarNames { path: PathBuf, found: usize, expected: usize },

    #[error("`{}` holds no class folder: expected one folder of images for each class", path.display())]
    FolderNoClasses { path: PathBuf },

    #[error(
        "`{}` holds no image: expected at least one jpg, jpeg, png, webp or bmp file; add one or remove the folder",
        path.display()
    )]
    FolderEmptyClass { path: PathBuf },

    #[error(
        "`{}` and `{}` hold different classes: {}; give both the same class folders",
        train.display(), test.display(), difference(only_train, only_test)
    )]
    FolderClasses { train: PathBuf, test: PathBuf, only_train: Vec<String>, only_test: Vec<String> },

    #[error(
        "`{}` is {found}: expected only image files in a class folder; \
         move it out, or hide it with a leading dot",
        path.display()
    )]
    FolderEntry { path: PathBuf, found: &'static str },

    #[error(
        "`{}` is a link to `{}`, outside the data set `{}`: expected links to stay inside; \
         move or copy the files in, or make the data set's own folder the link",
        path.display(), target.display(), root.display()
    )]
    FolderOutside { path: PathBuf, target: PathBuf, root: PathBuf },

    #[error("the class folder `{}` has no name in UTF-8: rename it", path.display())]
    FolderName { path: PathBuf },

    /// The archive as a whole.
    #[error("`{}` cannot be used as an archive of images: {problem}", path.display())]
    Archive { path: PathBuf, problem: String },

    /// `problem` goes on behind the entry's name.
    #[error("the entry `{entry}` of `{}` {problem}", archive.display())]
    ArchiveEntry { archive: PathBuf, entry: String, problem: String },

    #[error("{}", broken_list(first, *n_broken, *n_images))]
    FolderBroken { first: Vec<BrokenImage>, n_broken: usize, n_images: usize },

    #[error(
        "the decoded data set is larger than {limit_bytes} bytes: expected it to fit in memory; \
         make its images smaller or take fewer of them"
    )]
    TooManyBytes { limit_bytes: u64 },

    #[error("the data set has more than {} images: take fewer of them", u32::MAX)]
    TooManyImages,

    #[error("the built-in data set was asked for `{field}` = `{found}`: expected {expected}")]
    Builtin { field: &'static str, found: u64, expected: String },

    #[error("the held-out fraction is `{fraction}`: expected a number between 0 and 1, both excluded, such as 0.1")]
    HeldOutFraction { fraction: f64 },

    #[error("{part} has no image: {remedy}")]
    EmptyPart { part: &'static str, remedy: &'static str },
}

/// An image file that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenImage {
    pub path: PathBuf,
    pub reason: String,
}

/// How a data set lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    Cifar10,
    Cifar100,
    ImageFolder,
}

impl DataError {
    pub(super) fn io(path: &Path, source: io::Error) -> DataError {
        DataError::Io { path: path.to_owned(), source }
    }

    pub(super) fn archive(path: &Path, problem: String) -> DataError {
        DataError::Archive { path: path.to_owned(), problem }
    }

    /// `root` is the folder the user named, `path` what is not in it; both are shown in absolute form.
    pub(super) fn missing(layout: Layout, root: &Path, path: &Path) -> DataError {
        DataError::Missing { layout, root: absolute(root), path: absolute(path) }
    }

    /// A missing file or folder is told with the layout it belongs to, any other failure as it is.
    pub(super) fn missing_or_io(layout: Layout, root: &Path, path: &Path, source: io::Error) -> DataError {
        if source.kind() == io::ErrorKind::NotFound {
            return DataError::missing(layout, root, path);
        }
        DataError::io(path, source)
    }
}

impl Layout {
    fn help(self, root: &Path) -> String {
        let root = root.display();
        let archive = |name: &str, version: &str, md5: &str| {
            format!(
                "to get it: {version} from cs.toronto.edu/~kriz/cifar.html, `{name}`, md5 {md5}; unpack it in `{root}`"
            )
        };
        let (layout, source) = match self {
            Layout::Cifar10 => (
                format!("`{root}/cifar-10-batches-bin/` with data_batch_1.bin to data_batch_5.bin and test_batch.bin"),
                archive("cifar-10-binary.tar.gz", "the CIFAR-10 binary version", "c32a1d4ab5d03f1284b67883e8d87530"),
            ),
            Layout::Cifar100 => (
                format!("`{root}/cifar-100-binary/` with train.bin, test.bin and fine_label_names.txt"),
                archive("cifar-100-binary.tar.gz", "the CIFAR-100 binary version", "03b5dce01913d631647c71ecec9e9cb8"),
            ),
            Layout::ImageFolder => (
                format!(
                    "`{root}/train/<class>/` and `{root}/test/<class>/` (or `val`) with jpg, jpeg, png, webp or \
                     bmp files"
                ),
                "to get it: sort your images into one folder for each class; a .tar or .tar.xz of these folders will do"
                    .to_owned(),
            ),
        };
        format!(
            "expected: {layout}\n{source}\n\
             if it lies elsewhere: `--data DIR` names the folder to use instead of `{root}`"
        )
    }
}

fn source_name(layout: Layout) -> &'static str {
    match layout {
        Layout::Cifar10 => "the CIFAR-10 data set",
        Layout::Cifar100 => "the CIFAR-100 data set",
        Layout::ImageFolder => "the image folder",
    }
}

/// The path from the root of the file system on, for a path that need not exist.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn difference(only_train: &[String], only_test: &[String]) -> String {
    let list = |names: &[String], part: &str| {
        let shown: Vec<String> = names.iter().take(5).map(|name| format!("`{}`", harmless(name))).collect();
        let more = if names.len() > 5 { format!(" and {} more", names.len() - 5) } else { String::new() };
        (!names.is_empty()).then(|| format!("only {part} has {}{more}", shown.join(", ")))
    };
    let sides: Vec<String> =
        [list(only_train, "the first"), list(only_test, "the second")].into_iter().flatten().collect();
    sides.join(", ")
}

/// Text that no terminal obeys.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn broken_list(first: &[BrokenImage], n_broken: usize, n_images: usize) -> String {
    use fmt::Write;
    let mut text = format!("{n_broken} of {n_images} images cannot be used; repair or remove them:");
    for BrokenImage { path, reason } in first {
        write!(text, "\n  `{}`: {reason}", path.display()).expect("a string takes any text");
    }
    if n_broken > first.len() {
        write!(text, "\n  and {} more", n_broken - first.len()).expect("a string takes any text");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_name_does_not_speak_to_terminals() {
        let folder = |part: &str| PathBuf::from(part);
        let (only_train, only_test) = (vec!["\u{10}".to_owned()], vec!["\u{1b}[2J".to_owned()]);
        let error = DataError::FolderClasses { train: folder("train"), test: folder("test"), only_train, only_test };
        let text = error.to_string();
        assert!(!text.chars().any(char::is_control), "{text:?}");
        assert!(text.contains("the first has `\u{fffd}`") && text.contains("the second has `\u{fffd}[2J`"), "{text}");
    }
}
