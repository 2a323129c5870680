//! The folders of an archive, sorted by name in byte order as a listing is.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use crate::data::image_folder::listing::{
    Content, ImageFile, Listing, TEST_NAMES, TRAIN_NAME, check_same_classes, is_image_name,
};
use crate::data::{DataError, Layout, Part};

/// A folder of its own, `train`, the class, the image, and one more to see that a class holds folders: what lies deeper
/// is only the folder it lies in.
const DEPTH_MAX: usize = 5;

#[derive(Debug, Default)]
pub(super) struct Folder {
    nodes: BTreeMap<Vec<u8>, Node>,
}

#[derive(Debug)]
pub(super) enum Node {
    Folder(Folder),
    /// As stored.
    Image(Vec<u8>),
    Other,
}

/// Another entry took the place, or a place above it, for a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken;

/// Whether this could be the place of an image: `train/<class>/<image>`, or the same in a folder of its own.
pub(super) fn is_place_of_image(components: &[&[u8]]) -> bool {
    let ([part, _, name] | [_, part, _, name]) = components else { return false };
    is_name_of_part(part) && is_image_name(Path::new(&shown(name)))
}

fn is_name_of_part(name: &[u8]) -> bool {
    name == TRAIN_NAME.as_bytes() || TEST_NAMES.iter().any(|known| name == known.as_bytes())
}

impl Folder {
    /// Puts a node in its place, with the folders above it. A folder may come more than once.
    pub fn insert(&mut self, components: &[&[u8]], node: Node) -> Result<(), Taken> {
        let (components, node) = match components.get(..DEPTH_MAX) {
            Some(above) if components.len() > DEPTH_MAX => (above, Node::Folder(Folder::default())),
            Some(_) | None => (components, node),
        };
        let Some((name, above)) = components.split_last() else { return Ok(()) };
        let mut folder = self;
        for name in above {
            let node = folder.nodes.entry(name.to_vec()).or_insert_with(|| Node::Folder(Folder::default()));
            let Node::Folder(next) = node else { return Err(Taken) };
            folder = next;
        }
        match folder.nodes.entry(name.to_vec()) {
            Entry::Vacant(place) => {
                place.insert(node);
                Ok(())
            }
            Entry::Occupied(place) => match (place.get(), node) {
                (Node::Folder(_), Node::Folder(_)) => Ok(()),
                (Node::Folder(_) | Node::Image(_) | Node::Other, _) => Err(Taken),
            },
        }
    }

    /// `archive` stands for the root in what is said of its files.
    pub fn into_listing(self, archive: &Path) -> Result<Listing, DataError> {
        let (mut root, path) = self.into_root(archive);
        let missing = |name: &str| DataError::missing(Layout::ImageFolder, archive, &path.join(name));
        let train = root.take_folder(TRAIN_NAME).ok_or_else(|| missing(TRAIN_NAME))?;
        let mut tests = TEST_NAMES.iter().filter_map(|name| Some((path.join(name), root.take_folder(name)?)));
        let (test_path, test) = tests.next().ok_or_else(|| missing(TEST_NAMES[0]))?;
        let train_path = path.join(TRAIN_NAME);
        let class_names = train.class_names(&train_path)?;
        check_same_classes(&train_path, &test_path, &class_names, &test.class_names(&test_path)?)?;
        let mut files = Vec::new();
        for (part, folder, path) in [(Part::Train, train, train_path), (Part::Test, test, test_path)] {
            let classes = folder.nodes.into_iter().filter_map(|(name, node)| match node {
                Node::Folder(class) => Some((path.join(shown(&name)), class)),
                Node::Image(_) | Node::Other => None,
            });
            for (label, (path, class)) in (0..).zip(classes) {
                class.take_images(&path, part, label, &mut files)?;
            }
        }
        Ok(Listing { class_names, files })
    }

    /// The folder that holds the parts: this one, or the only one in it.
    fn into_root(mut self, archive: &Path) -> (Folder, PathBuf) {
        let is_folder = |node: &Node| matches!(node, Node::Folder(_));
        let mut folders = self.nodes.iter().filter(|(_, node)| is_folder(node)).map(|(name, _)| name);
        let (Some(only), None) = (folders.next().cloned(), folders.next()) else { return (self, archive.to_owned()) };
        if is_name_of_part(&only) {
            return (self, archive.to_owned());
        }
        match self.nodes.remove(&only) {
            Some(Node::Folder(inner)) => (inner, archive.join(shown(&only))),
            Some(Node::Image(_) | Node::Other) | None => (self, archive.to_owned()),
        }
    }

    fn take_folder(&mut self, name: &str) -> Option<Folder> {
        match self.nodes.remove(name.as_bytes()) {
            Some(Node::Folder(folder)) => Some(folder),
            Some(Node::Image(_) | Node::Other) | None => None,
        }
    }

    fn class_names(&self, path: &Path) -> Result<Vec<String>, DataError> {
        let folders = self.nodes.iter().filter(|(_, node)| matches!(node, Node::Folder(_)));
        let names: Result<Vec<String>, DataError> = folders
            .map(|(name, _)| {
                String::from_utf8(name.clone()).map_err(|_| DataError::FolderName { path: path.join(shown(name)) })
            })
            .collect();
        match names {
            Ok(names) if names.is_empty() => Err(DataError::FolderNoClasses { path: path.to_owned() }),
            Ok(_) | Err(_) => names,
        }
    }

    fn take_images(self, path: &Path, part: Part, label: u32, files: &mut Vec<ImageFile>) -> Result<(), DataError> {
        let n_before = files.len();
        for (name, node) in self.nodes {
            let path = path.join(shown(&name));
            match node {
                Node::Folder(_) => return Err(DataError::FolderEntry { path, found: "a folder" }),
                Node::Image(bytes) => files.push(ImageFile { part, label, path, content: Content::Held(bytes) }),
                Node::Other => {}
            }
        }
        if files.len() == n_before {
            return Err(DataError::FolderEmptyClass { path: path.to_owned() });
        }
        Ok(())
    }
}

/// Text that no terminal obeys, for people; the order of names is that of their bytes.
pub(super) fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name)
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}
