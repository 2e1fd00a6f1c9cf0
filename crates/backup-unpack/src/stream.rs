//! One server's stream: what `SERVER/backup.xbsteam` of a backup holds.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use xbstream::member::Format;
use xbstream::{ExtractOptions, Extracted, Reader};

use crate::error::Error;
use crate::layout::{Layout, Options};
use crate::partial::Partial;
use crate::progress::Progress;
use crate::report::{Report, ServerFiles, Tally};
use crate::unpack::measured;

/// One of these is in every whole backup: XtraBackup and mariabackup write the first, MariaDB 11.1 and later the second.
pub const CHECKPOINTS: [&str; 2] = ["xtrabackup_checkpoints", "mariadb_backup_checkpoints"];

/// Unpacks the stream of one server of a backup by itself: `layout` has a place for this server and no other. Nothing
/// else of the backup is expected in `input`, and `WORK-DIR/BACKUP` is not touched.
///
/// # Errors
///
/// As [`unpack`](crate::unpack()); [`Error::Layout`] if the layout has not exactly one server.
pub fn unpack_stream(
    input: impl Read,
    layout: &Layout,
    options: &Options,
    progress: &Progress,
) -> Result<Report, Error> {
    measured("stream", progress, || {
        layout.check()?;
        let mut servers = layout.servers.iter();
        let (Some((server, directory)), None, None) = (servers.next(), servers.next(), &layout.base) else {
            return Err(Error::Layout { reason: "a stream is that of one server, and nothing else".into() });
        };
        let mut partial = Partial::create(directory, progress)?;
        progress.begin(server.as_bytes());
        let input = Reader::new(progress.watch(input));
        let files =
            extract(options, server, &partial, |options| xbstream::extract(input, partial.path(), options))?;
        if options.sync {
            partial.sync()?;
        }
        partial.publish()?;
        partial.keep();
        Ok(Report {
            backup: layout.backup.clone(),
            source: "",
            bytes_read: 0,
            bytes_written: files.bytes,
            servers: BTreeMap::from([(server.clone(), files)]),
            servers_skipped: Vec::new(),
            base: None,
            small_files: Tally::default(),
            mode_bits_dropped: Vec::new(),
            seconds: 0.0,
            process_io: None,
        })
    })
}

/// A stream into its directory, by `extract`.
pub(crate) fn extract(
    options: &Options,
    server: &str,
    partial: &Partial,
    extract: impl FnOnce(&ExtractOptions) -> Result<Extracted, xbstream::Error>,
) -> Result<ServerFiles, Error> {
    let options = ExtractOptions::new().decoding(options.decoding.clone()).threads(options.threads.max(1));
    let extracted = extract(&options).map_err(|error| match error {
        xbstream::Error::Read { source, .. } => Error::Read(source),
        source => Error::Stream { server: server.to_owned(), source: Box::new(source) },
    })?;
    // Without the key the members lie there as they came.
    if let Some(member) = encrypted(partial.path())? {
        return Err(Error::ToolEncrypted { server: server.to_owned(), member });
    }
    // A stream cut behind the end of a file looks complete to its reader; this file comes last.
    if !CHECKPOINTS.iter().any(|name| has_contents(&partial.path().join(name))) {
        return Err(Error::NoCheckpoints { server: server.to_owned() });
    }
    Ok(ServerFiles {
        directory: partial.destination().to_owned(),
        files: extracted.files,
        bytes: extracted.bytes,
        decoded: extracted.decoded,
        stream_bytes: extracted.archive,
    })
}

/// A member at the top that the backup tool itself encrypted. It does so with all of them or none.
fn encrypted(path: &Path) -> Result<Option<PathBuf>, Error> {
    let fail = |source| Error::File { action: "listing", path: path.to_owned(), source };
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        if matches!(Format::of(name.as_bytes()), Some((_, Format::Xbcrypt))) {
            return Ok(Some(name.into()));
        }
    }
    Ok(None)
}

fn has_contents(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}
