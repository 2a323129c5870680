//! Every file of a store, and what its place and name say it is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::content::Key;
use crate::store::disk::{Disk, MARKER};
use crate::store::error::StoreError;
use crate::store::temporary;

/// What a file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    /// Says that the directory is a store.
    Format,
    Record(Key),
    Preimage(Key),
    DroppedMarker(Key),
    Divergence(Key),
    Failure(Key),
    Blob(Key),
    Claim(Key),
    Progress(Key),
    Pin(Key),
    Temporary,
    /// A blob `gc` was about to remove when it died.
    Condemned(Key),
    /// A damaged blob, a record of no use, or what was in the place of a file.
    SetAside,
    /// A file of a name that says what it is, in a directory where nobody looks for it.
    Misplaced,
    /// Nothing the store wrote.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub sort: Sort,
    pub path: PathBuf,
}

/// How the files of an area are named.
type Naming = fn(&str) -> Option<(Key, Sort)>;

const SHARDED: [(&str, Naming); 3] = [("blobs", blob), ("records", record), ("failures", failure)];
const FLAT: [(&str, Naming); 3] = [
    ("claims", |name| plain(name, Sort::Claim)),
    ("progress", |name| plain(name, Sort::Progress)),
    ("pins", |name| plain(name, Sort::Pin)),
];

/// Every file, in no order; what appears or goes away meanwhile may or may not be among them.
pub(super) fn walk(disk: &Disk) -> Result<Vec<Item>, StoreError> {
    let root = disk.root();
    let mut items = Vec::new();
    for name in names(disk, root)?.unwrap_or_default() {
        let path = root.join(&name);
        if let Some((_, naming)) = FLAT.iter().find(|(area, _)| *area == name) {
            area(disk, path, *naming, None, &mut items)?;
        } else if let Some((_, naming)) = SHARDED.iter().find(|(area, _)| *area == name) {
            match names(disk, &path)? {
                Some(shards) => {
                    shards.iter().try_for_each(|shard| self::shard(disk, &path, shard, *naming, &mut items))?;
                }
                None => items.push(Item { sort: Sort::Unknown, path }),
            }
        } else {
            let sort = match name.as_str() {
                MARKER => Sort::Format,
                other => common(other).unwrap_or(Sort::Unknown),
            };
            items.push(Item { sort, path });
        }
    }
    Ok(items)
}

fn shard(disk: &Disk, area_path: &Path, shard: &str, naming: Naming, items: &mut Vec<Item>) -> Result<(), StoreError> {
    let path = area_path.join(shard);
    if shard.len() == 2 && shard.bytes().all(|byte| byte.is_ascii_hexdigit() && !byte.is_ascii_uppercase()) {
        return area(disk, path, naming, Some(shard), items);
    }
    items.push(Item { sort: common(shard).unwrap_or(Sort::Unknown), path });
    Ok(())
}

/// The files of one directory. `shard` is how the keys of its files begin.
fn area(
    disk: &Disk,
    directory: PathBuf,
    naming: Naming,
    shard: Option<&str>,
    items: &mut Vec<Item>,
) -> Result<(), StoreError> {
    let Some(names) = names(disk, &directory)? else {
        items.push(Item { sort: Sort::Unknown, path: directory });
        return Ok(());
    };
    for name in names {
        let sort = match (common(&name), naming(&name)) {
            (Some(sort), _) => sort,
            (None, Some((key, _))) if shard.is_some_and(|shard| !key.to_string().starts_with(shard)) => Sort::Misplaced,
            (None, Some((_, sort))) => sort,
            (None, None) => Sort::Unknown,
        };
        items.push(Item { sort, path: directory.join(name) });
    }
    Ok(())
}

/// What may be in any directory.
fn common(name: &str) -> Option<Sort> {
    if temporary::is_temporary(name) {
        return Some(Sort::Temporary);
    }
    name.contains(".displaced.").then_some(Sort::SetAside)
}

fn plain(name: &str, sort: fn(Key) -> Sort) -> Option<(Key, Sort)> {
    let key = name.parse().ok()?;
    Some((key, sort(key)))
}

fn blob(name: &str) -> Option<(Key, Sort)> {
    match name.split_once('.') {
        None => plain(name, Sort::Blob),
        Some((digest, "damaged")) => Some((digest.parse().ok()?, Sort::SetAside)),
        Some((digest, "condemned")) => plain(digest, Sort::Condemned),
        Some(_) => None,
    }
}

fn record(name: &str) -> Option<(Key, Sort)> {
    let (key, extension) = name.split_once('.')?;
    let key: Key = key.parse().ok()?;
    let sort = match extension {
        "record" => Sort::Record(key),
        "preimage" => Sort::Preimage(key),
        "dropped" => Sort::DroppedMarker(key),
        "retired" => Sort::SetAside,
        other => other.strip_prefix("divergence-")?.parse::<Key>().ok().map(|_| Sort::Divergence(key))?,
    };
    Some((key, sort))
}

fn failure(name: &str) -> Option<(Key, Sort)> {
    plain(name.strip_suffix(".record")?, Sort::Failure)
}

/// The names in a directory, in order; none where it is no directory. One that went away is empty.
fn names(disk: &Disk, directory: &Path) -> Result<Option<Vec<String>>, StoreError> {
    let mut names = match disk.fs().list(directory) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) if error.kind() == ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(StoreError::io("list", directory)(error)),
    };
    names.sort_unstable();
    Ok(Some(names))
}
