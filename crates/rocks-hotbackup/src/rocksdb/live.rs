//! Which files a database consists of, from its MANIFEST: the log of all changes to the set of files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;

use super::log::{Broken, Records};
use super::varint::Fields;
use crate::Error;

/// Tags of the fields of a version edit. A tag with [`IGNORABLE`] may be passed over: its field is a string.
mod tag {
    pub(super) const COMPARATOR: u32 = 1;
    pub(super) const LOG_NUMBER: u32 = 2;
    pub(super) const NEXT_FILE_NUMBER: u32 = 3;
    pub(super) const LAST_SEQUENCE: u32 = 4;
    pub(super) const COMPACT_CURSOR: u32 = 5;
    pub(super) const DELETED_FILE: u32 = 6;
    pub(super) const NEW_FILE: u32 = 7;
    pub(super) const PREVIOUS_LOG_NUMBER: u32 = 9;
    pub(super) const MIN_LOG_NUMBER_TO_KEEP: u32 = 10;
    pub(super) const NEW_FILE_2: u32 = 100;
    pub(super) const NEW_FILE_3: u32 = 102;
    pub(super) const NEW_FILE_4: u32 = 103;
    pub(super) const COLUMN_FAMILY: u32 = 200;
    pub(super) const COLUMN_FAMILY_ADD: u32 = 201;
    pub(super) const COLUMN_FAMILY_DROP: u32 = 202;
    pub(super) const MAX_COLUMN_FAMILY: u32 = 203;
    pub(super) const IN_ATOMIC_GROUP: u32 = 300;
    pub(super) const BLOB_FILE_ADDITION: u32 = 400;
    pub(super) const BLOB_FILE_GARBAGE: u32 = 401;
    pub(super) const IGNORABLE: u32 = 1 << 13;
}

/// A file that a database needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveFile {
    /// The number in its name.
    pub number: u64,
    /// Its size in bytes; unknown for blob files.
    pub size: Option<u64>,
}

/// What a MANIFEST says a database consists of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LiveFiles {
    /// `NUMBER.sst` with their sizes in bytes.
    pub sst: BTreeMap<u64, u64>,
    /// `NUMBER.blob`.
    pub blob: BTreeSet<u64>,
    /// Names of the column families by number.
    pub column_families: BTreeMap<u32, String>,
    /// The name of the order of keys; MyRocks has its own.
    pub comparator: String,
    /// The last sequence number.
    pub last_sequence: u64,
    /// WAL files with a lower number are not needed.
    pub log_number: u64,
}

/// The files of each column family, until all changes are read: a family may be dropped as a whole.
#[derive(Default)]
struct Families {
    files: BTreeMap<u32, BTreeMap<u64, u64>>,
    live: LiveFiles,
}

impl LiveFiles {
    /// Reads a MANIFEST; `path` is for messages.
    ///
    /// # Errors
    ///
    /// [`Error::Rocks`] if it is damaged, cut off or has fields that cannot be passed over; [`Error::Io`].
    pub fn read(reader: impl Read, path: &Path) -> Result<Self, Error> {
        let rocks =
            |offset, reason: &str| Error::Rocks { path: path.to_owned(), offset, reason: reason.to_owned() };
        let mut records = Records::new(reader);
        let mut families = Families::default();
        families.live.column_families.insert(0, "default".into());
        let mut any = false;
        loop {
            let offset = records.offset();
            match records.next_record() {
                Ok(Some(record)) => families.apply(record).map_err(|reason| rocks(offset, reason))?,
                Ok(None) => break,
                Err(Broken::Io(source)) => {
                    return Err(Error::Io { action: "read", path: path.to_owned(), source });
                }
                Err(Broken::At { offset, reason }) => return Err(rocks(offset, reason)),
            }
            any = true;
        }
        if !any {
            return Err(rocks(0, "it is empty"));
        }
        let mut live = families.live;
        live.sst = families.files.into_values().flatten().collect();
        Ok(live)
    }

    /// All files with the name that RocksDB gives them.
    pub fn names(&self) -> impl Iterator<Item = (String, Option<u64>)> {
        let sst = self.sst.iter().map(|(n, size)| (format!("{n:06}.sst"), Some(*size)));
        sst.chain(self.blob.iter().map(|n| (format!("{n:06}.blob"), None)))
    }
}

impl Families {
    /// Applies one version edit. A record that is cut or of an unknown kind is an error: a file that is not seen
    /// would be missed only at the restore.
    fn apply(&mut self, record: &[u8]) -> Result<(), &'static str> {
        let mut fields = Fields(record);
        let mut edit = Edit::default();
        while !fields.is_empty() {
            self.field(&mut fields, &mut edit).ok_or("a change to the set of files cannot be read")??;
        }
        let live = &mut self.live;
        if let Some(name) = edit.added {
            live.column_families.insert(edit.family, name);
        }
        if edit.dropped {
            live.column_families.remove(&edit.family);
            self.files.remove(&edit.family);
            return Ok(());
        }
        let files = self.files.entry(edit.family).or_default();
        // A file that moves to another level is deleted and added by the same edit.
        for number in edit.deleted {
            files.remove(&number);
        }
        files.extend(edit.new);
        Ok(())
    }

    /// Reads one field. The outer `None` is a field that is cut, the inner error one that is not known.
    fn field(&mut self, fields: &mut Fields<'_>, edit: &mut Edit) -> Option<Result<(), &'static str>> {
        let live = &mut self.live;
        match fields.varint32()? {
            tag::COMPARATOR => live.comparator = String::from_utf8_lossy(fields.string()?).into_owned(),
            tag::LOG_NUMBER => live.log_number = live.log_number.max(fields.varint()?),
            tag::LAST_SEQUENCE => live.last_sequence = live.last_sequence.max(fields.varint()?),
            tag::NEXT_FILE_NUMBER | tag::PREVIOUS_LOG_NUMBER | tag::MIN_LOG_NUMBER_TO_KEEP => {
                fields.varint()?;
            }
            tag::COMPACT_CURSOR => {
                fields.varint32()?;
                fields.string()?;
            }
            tag::DELETED_FILE => {
                fields.varint32()?;
                edit.deleted.push(fields.varint()?);
            }
            kind @ (tag::NEW_FILE | tag::NEW_FILE_2 | tag::NEW_FILE_3 | tag::NEW_FILE_4) => {
                edit.new.push(new_file(kind, fields)?);
            }
            tag::COLUMN_FAMILY => edit.family = fields.varint32()?,
            tag::COLUMN_FAMILY_ADD => {
                edit.added = Some(String::from_utf8_lossy(fields.string()?).into_owned())
            }
            tag::COLUMN_FAMILY_DROP => edit.dropped = true,
            tag::MAX_COLUMN_FAMILY | tag::IN_ATOMIC_GROUP => {
                fields.varint32()?;
            }
            tag::BLOB_FILE_ADDITION => {
                live.blob.insert(fields.varint()?);
                fields.varint()?;
                fields.varint()?;
                fields.string()?;
                fields.string()?;
                custom(fields, 0)?;
            }
            tag::BLOB_FILE_GARBAGE => {
                for _ in 0..3 {
                    fields.varint()?;
                }
                custom(fields, 0)?;
            }
            other if other & tag::IGNORABLE != 0 => {
                fields.string()?;
            }
            _ => return Some(Err("a change to the set of files is of an unknown kind")),
        }
        Some(Ok(()))
    }
}

#[derive(Default)]
struct Edit {
    family: u32,
    added: Option<String>,
    dropped: bool,
    deleted: Vec<u64>,
    new: Vec<(u64, u64)>,
}

/// Number and size of a new file, in one of four forms.
fn new_file(kind: u32, fields: &mut Fields<'_>) -> Option<(u64, u64)> {
    fields.varint32()?; // level
    let number = fields.varint()?;
    if kind == tag::NEW_FILE_3 {
        fields.varint32()?; // path
    }
    let size = fields.varint()?;
    fields.string()?; // smallest key
    fields.string()?; // largest key
    if kind != tag::NEW_FILE {
        fields.varint()?; // smallest sequence number
        fields.varint()?; // largest sequence number
    }
    if kind == tag::NEW_FILE_4 {
        custom(fields, 1)?;
    }
    Some((number, size))
}

/// Passes over fields of the form tag, string, up to the tag `end`.
fn custom(fields: &mut Fields<'_>, end: u32) -> Option<()> {
    while fields.varint32()? != end {
        fields.string()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(mut value: u64, out: &mut Vec<u8>) {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }

    fn edit(numbers: &[u64]) -> Vec<u8> {
        let mut record = Vec::new();
        for number in numbers {
            varint(*number, &mut record);
        }
        record
    }

    /// The fields of a new file of form 4: no keys, no custom fields.
    fn new(number: u64, size: u64) -> Vec<u64> {
        vec![103, 0, number, size, 0, 0, 1, 2, 1]
    }

    #[test]
    fn added_and_deleted_files_leave_the_live_ones() {
        let mut families = Families::default();
        families.apply(&edit(&[new(13, 1000), new(14, 70_000)].concat())).unwrap();
        families.apply(&edit(&[vec![200, 1], new(15, 5)].concat())).unwrap();
        families.apply(&edit(&[vec![6, 0, 13], new(16, 9)].concat())).unwrap();
        let files: Vec<_> = families.files.values().flatten().map(|(n, s)| (*n, *s)).collect();
        assert_eq!(files, [(14, 70_000), (16, 9), (15, 5)]);
    }

    #[test]
    fn a_file_that_moves_to_another_level_stays() {
        let mut families = Families::default();
        families.apply(&edit(&new(13, 1000))).unwrap();
        families.apply(&edit(&[vec![6, 0, 13], new(13, 1000)].concat())).unwrap();
        assert_eq!(families.files[&0].get(&13), Some(&1000));
    }

    #[test]
    fn a_dropped_column_family_takes_its_files_along() {
        let mut families = Families::default();
        families.apply(&edit(&[vec![200, 7], new(13, 1000)].concat())).unwrap();
        families.apply(&edit(&[200, 7, 202])).unwrap();
        assert!(families.files.is_empty());
    }

    #[test]
    fn every_cut_of_an_edit_is_an_error_or_a_shorter_edit() {
        let record = edit(&new(13, 1000));
        for cut in 1..record.len() {
            assert!(Families::default().apply(&record[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn unknown_fields_are_errors_unless_marked_ignorable() {
        assert!(Families::default().apply(&edit(&[999, 0])).is_err());
        assert!(Families::default().apply(&edit(&[8193, 0])).is_ok());
    }
}
