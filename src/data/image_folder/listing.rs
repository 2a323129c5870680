//! The image files of a folder, in byte order of their names.

use std::fs::{self, DirEntry, FileType};
use std::path::{Path, PathBuf};

use crate::data::{DataError, Layout, Part};

pub(super) const TRAIN_NAME: &str = "train";
/// The first that is there is taken.
pub(super) const TEST_NAMES: [&str; 2] = ["test", "val"];
const EXTENSIONS: [&str; 5] = ["jpg", "jpeg", "png", "webp", "bmp"];

#[derive(Debug)]
pub(super) struct Listing {
    pub class_names: Vec<String>,
    /// Training part first, then by class, then by name.
    pub files: Vec<ImageFile>,
}

#[derive(Debug)]
pub(super) struct ImageFile {
    pub part: Part,
    pub label: u32,
    pub path: PathBuf,
    pub content: Content,
}

/// Where the bytes of an image file are.
#[derive(Debug)]
pub(super) enum Content {
    /// At its path.
    OnDisk,
    /// Here, read from an archive; the path is only its name.
    Held(Vec<u8>),
}

/// A data set's own folder; links may not lead out of it.
struct Root {
    path: PathBuf,
    canonical: PathBuf,
}

impl Listing {
    pub fn of(root: &Path) -> Result<Listing, DataError> {
        let canonical =
            root.canonicalize().map_err(|source| DataError::missing_or_io(Layout::ImageFolder, root, root, source))?;
        let root = Root { path: root.to_owned(), canonical };
        let train = root.part(&[TRAIN_NAME])?;
        let test = root.part(&TEST_NAMES)?;
        let class_names = root.class_names(&train)?;
        check_same_classes(&train, &test, &class_names, &root.class_names(&test)?)?;
        let mut files = Vec::new();
        for (part, folder) in [(Part::Train, &train), (Part::Test, &test)] {
            for (label, name) in (0..).zip(&class_names) {
                let images = root.images(&folder.join(name))?;
                files.extend(images.into_iter().map(|path| ImageFile { part, label, path, content: Content::OnDisk }));
            }
        }
        Ok(Listing { class_names, files })
    }
}

impl ImageFile {
    /// Lets go of what is held, once it is decoded.
    pub fn release(&mut self) {
        match &mut self.content {
            Content::OnDisk => {}
            Content::Held(bytes) => drop(std::mem::take(bytes)),
        }
    }
}

impl Root {
    /// The first of the names that is there.
    fn part(&self, names: &[&str]) -> Result<PathBuf, DataError> {
        let mut folders = names.iter().map(|name| self.path.join(name));
        let folder = folders.find(|folder| folder.is_dir());
        let folder =
            folder.ok_or_else(|| DataError::missing(Layout::ImageFolder, &self.path, &self.path.join(names[0])))?;
        let kind = fs::symlink_metadata(&folder).map_err(|source| DataError::io(&folder, source))?.file_type();
        self.follow(&folder, kind)?;
        Ok(folder)
    }

    fn class_names(&self, part: &Path) -> Result<Vec<String>, DataError> {
        let mut names = Vec::new();
        for entry in visible_entries(part)? {
            if self.kind(&entry)?.is_dir() {
                names.push(entry.file_name().into_string().map_err(|_| DataError::FolderName { path: entry.path() })?);
            }
        }
        if names.is_empty() {
            return Err(DataError::FolderNoClasses { path: part.to_owned() });
        }
        names.sort_unstable();
        Ok(names)
    }

    fn images(&self, class: &Path) -> Result<Vec<PathBuf>, DataError> {
        let mut images = Vec::new();
        for entry in visible_entries(class)? {
            let kind = self.kind(&entry)?;
            if kind.is_dir() {
                return Err(DataError::FolderEntry { path: entry.path(), found: "a folder" });
            }
            if !is_image_name(Path::new(&entry.file_name())) {
                continue;
            }
            // Opening a pipe would wait for ever.
            if !kind.is_file() {
                return Err(DataError::FolderEntry { path: entry.path(), found: "not a regular file" });
            }
            images.push(entry.path());
        }
        if images.is_empty() {
            return Err(DataError::FolderEmptyClass { path: class.to_owned() });
        }
        images.sort_unstable_by(|a, b| file_name_bytes(a).cmp(file_name_bytes(b)));
        Ok(images)
    }

    fn kind(&self, entry: &DirEntry) -> Result<FileType, DataError> {
        let path = entry.path();
        self.follow(&path, entry.file_type().map_err(|source| DataError::io(&path, source))?)
    }

    /// What a link leads to, refused when that is outside; anything else as it is.
    fn follow(&self, path: &Path, kind: FileType) -> Result<FileType, DataError> {
        if !kind.is_symlink() {
            return Ok(kind);
        }
        let target = path.canonicalize().map_err(|source| DataError::io(path, source))?;
        if !target.starts_with(&self.canonical) {
            return Err(DataError::FolderOutside { path: path.to_owned(), target, root: self.canonical.clone() });
        }
        Ok(target.metadata().map_err(|source| DataError::io(path, source))?.file_type())
    }
}

fn visible_entries(folder: &Path) -> Result<Vec<DirEntry>, DataError> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| DataError::io(folder, source))? {
        let entry = entry.map_err(|source| DataError::io(folder, source))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry);
        }
    }
    Ok(entries)
}

pub(super) fn is_image_name(name: &Path) -> bool {
    let extension = name.extension();
    EXTENSIONS.iter().any(|known| extension.is_some_and(|found| found.eq_ignore_ascii_case(known)))
}

fn file_name_bytes(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_encoded_bytes()
}

pub(super) fn check_same_classes(
    train: &Path,
    test: &Path,
    train_names: &[String],
    test_names: &[String],
) -> Result<(), DataError> {
    if train_names == test_names {
        return Ok(());
    }
    let only = |names: &[String], others: &[String]| -> Vec<String> {
        names.iter().filter(|name| others.binary_search(name).is_err()).cloned().collect()
    };
    Err(DataError::FolderClasses {
        train: train.to_owned(),
        test: test.to_owned(),
        only_train: only(train_names, test_names),
        only_test: only(test_names, train_names),
    })
}
