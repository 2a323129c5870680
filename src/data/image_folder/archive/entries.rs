//! The pass over a tar archive: every entry checked, images held, the rest passed over.

use std::io::{self, Read};
use std::path::Path;
use std::rc::Rc;

use tar::{Archive, Entry, EntryType};

use crate::data::DataError;
use crate::data::image_folder::archive::Limits;
use crate::data::image_folder::archive::meter::{Meter, Metered};
use crate::data::image_folder::archive::tree::{Folder, Node, is_place_of_image, shown};

/// Padding of the entry before, the header and its extensions, long names for one.
const HEADER_BYTES_LIMIT: u64 = 1 << 20;
const BLOCK_BYTES: u64 = 512;

/// # Errors
/// Names the entry at fault. Links, devices, names that leave the archive and files that come twice are refused
/// wherever they are; so is an archive without its end.
pub(super) fn read<R: Read>(path: &Path, reader: R, limits: Limits) -> Result<Folder, DataError> {
    let meter = Meter::new(limits.unpacked_bytes);
    let mut archive = Archive::new(Metered { reader, meter: Rc::clone(&meter) });
    let pass = Pass { path, limits, meter: &meter };
    let mut tree = Folder::default();
    let mut last = None;
    let mut entries = archive.entries().map_err(|error| pass.unreadable(&error, last.as_deref()))?;
    loop {
        meter.allow(HEADER_BYTES_LIMIT);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(|error| pass.unreadable(&error, last.as_deref()))?;
        let name = entry.path_bytes().into_owned();
        meter.allow(entry.size().saturating_add(BLOCK_BYTES));
        pass.take(&mut entry, &name, &mut tree)?;
        last = Some(shown(&name));
    }
    if meter.at_end() {
        return Err(pass.cut_off(last.as_deref()));
    }
    meter.allow(u64::MAX);
    pass.finish(archive.into_inner())?;
    Ok(tree)
}

struct Pass<'a> {
    path: &'a Path,
    limits: Limits,
    meter: &'a Meter,
}

impl Pass<'_> {
    fn take<R: Read>(&self, entry: &mut Entry<'_, R>, name: &[u8], tree: &mut Folder) -> Result<(), DataError> {
        let kind = entry.header().entry_type();
        // Comments on the archive as a whole, which `git archive` writes.
        if kind.is_pax_global_extensions() {
            return self.pass_over(entry, name);
        }
        let components = components(name).map_err(|problem| self.refuse(name, problem))?;
        if components.iter().any(|component| component.starts_with(b".")) {
            return self.pass_over(entry, name);
        }
        // The oldest tars tell a folder by its name alone.
        let is_folder = kind == EntryType::Directory || (kind == EntryType::Regular && name.ends_with(b"/"));
        let node = match kind {
            _ if is_folder => {
                self.pass_over(entry, name)?;
                Node::Folder(Folder::default())
            }
            EntryType::Regular | EntryType::Continuous => self.content(entry, name, &components)?,
            EntryType::Symlink | EntryType::Link => return Err(self.refuse(name, LINK)),
            EntryType::Char | EntryType::Block | EntryType::Fifo => return Err(self.refuse(name, DEVICE)),
            EntryType::GNUSparse => return Err(self.refuse(name, SPARSE)),
            _ => return Err(self.refuse(name, UNKNOWN)),
        };
        tree.insert(&components, node).map_err(|_| self.refuse(name, TWICE))
    }

    fn content<R: Read>(&self, entry: &mut Entry<'_, R>, name: &[u8], components: &[&[u8]]) -> Result<Node, DataError> {
        if !is_place_of_image(components) {
            self.pass_over(entry, name)?;
            return Ok(Node::Other);
        }
        let size = entry.size();
        if size > self.limits.file_bytes {
            let problem = format!("has {size} bytes: expected at most {} in an image file", self.limits.file_bytes);
            return Err(self.refuse(name, &problem));
        }
        // Not `size` at once: the archive may say more than it has.
        let mut bytes = Vec::with_capacity(size.min(1 << 16) as usize);
        entry.read_to_end(&mut bytes).map_err(|error| self.unreadable(&error, Some(&shown(name))))?;
        if bytes.len() as u64 != size {
            return Err(self.cut_off(Some(&shown(name))));
        }
        bytes.shrink_to_fit();
        Ok(Node::Image(bytes))
    }

    fn pass_over<R: Read>(&self, entry: &mut Entry<'_, R>, name: &[u8]) -> Result<(), DataError> {
        let size = entry.size();
        let copied = io::copy(entry, &mut io::sink()).map_err(|error| self.unreadable(&error, Some(&shown(name))))?;
        if copied != size {
            return Err(self.cut_off(Some(&shown(name))));
        }
        Ok(())
    }

    /// Behind the end mark come zeros only; reading them also checks the sums of the compression.
    fn finish(&self, mut rest: impl Read) -> Result<(), DataError> {
        let mut buffer = [0; 1 << 13];
        loop {
            match rest.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) if buffer[..n].iter().all(|&byte| byte == 0) => {}
                Ok(_) => {
                    let problem = "more follows behind its end mark, as when archives are joined; pack it anew";
                    return Err(DataError::archive(self.path, problem.to_owned()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.unreadable(&error, None)),
            }
        }
    }

    fn refuse(&self, name: &[u8], problem: &str) -> DataError {
        DataError::ArchiveEntry { archive: self.path.to_owned(), entry: shown(name), problem: problem.to_owned() }
    }

    fn cut_off(&self, last: Option<&str>) -> DataError {
        let place = last.map_or_else(|| "before its first entry".to_owned(), |last| format!("in or behind `{last}`"));
        DataError::archive(self.path, format!("it is cut off {place}; get it again"))
    }

    /// What a failed read means; `near` is the entry it happened at or behind.
    fn unreadable(&self, error: &io::Error, near: Option<&str>) -> DataError {
        let place = near.map_or_else(String::new, |near| format!(" in or behind `{near}`"));
        if self.meter.total_is_spent() {
            let limit = self.limits.unpacked_bytes;
            let problem =
                format!("it unpacks to more than {limit} bytes{place}; unpack it and name the folder instead");
            return DataError::archive(self.path, problem);
        }
        if self.meter.allowance_is_spent() {
            let problem = format!("the header{place} is longer than {HEADER_BYTES_LIMIT} bytes; pack it anew");
            return DataError::archive(self.path, problem);
        }
        if self.meter.at_end() || error.kind() == io::ErrorKind::UnexpectedEof {
            return self.cut_off(near);
        }
        // What a parser complains of may hold names as they are.
        let error = shown(error.to_string().as_bytes());
        DataError::archive(self.path, format!("it is damaged or no tar{place} ({error}); pack or get it again"))
    }
}

const LINK: &str = "is a link: expected only files and folders; pack it with `tar --dereference --hard-dereference`";
const DEVICE: &str = "is a pipe or a device: expected only files and folders; leave it out";
const SPARSE: &str = "is stored as a sparse file: expected only plain files; pack it without `--sparse`";
const UNKNOWN: &str = "is of an unknown kind: expected only files and folders; leave it out";
const TWICE: &str = "is there twice: expected every file once; pack it anew";
const ABSOLUTE: &str = "has an absolute name: expected names below the archive's own folder; pack it with `tar -C`";
const LEADS_UP: &str = "has `..` in its name: expected names below the archive's own folder; pack it with `tar -C`";
const NO_NAME: &str = "has a name that no file can have; pack it anew";

/// The parts of a name, without `.` and empty ones.
fn components(name: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    if name.starts_with(b"/") {
        return Err(ABSOLUTE);
    }
    if name.contains(&0) {
        return Err(NO_NAME);
    }
    let components: Vec<&[u8]> =
        name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if components.contains(&b"..".as_slice()) {
        return Err(LEADS_UP);
    }
    Ok(components)
}
