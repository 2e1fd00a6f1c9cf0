//! A binlog file as a stream of checked events.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::event::{EventKind, FormatDescription, Header, RawEvent, Rotate};
use crate::frames::{ENCRYPTED_MAGIC, Frame, Frames, MAGIC};
use crate::target::Position;
use crate::version::Flavor;

/// How a file ended; known after [`Reader::next_event`] returned `None`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileEnd {
    /// With a rotate event: the chain goes on in the file of this name.
    Rotate {
        /// Name of the next file.
        next: String,
    },
    /// With a stop event: the server was shut down; the next file has the next number.
    Stop,
    /// The file was open when it was copied: what comes after is not in it.
    Open {
        /// Where the event starts that the copy cut; `None` if it ends between two events.
        cut: Option<u64>,
    },
    /// Between two events, closed, and without saying what comes next: after a crash, or cut there.
    Silent,
}

/// Reads the events of one binlog file.
///
/// Every checksum is compared, in files without checksums at least every size and place; what cannot be read
/// is an error with file and position, and a reader that failed stays failed. A file that was open when it
/// was copied may stop inside an event: that is an end, not an error, and [`Reader::end`] says so.
///
/// ```no_run
/// use binlog_replay::{Reader, event::Event};
///
/// let mut reader = Reader::open("master-bin.000001".as_ref())?;
/// while let Some(event) = reader.next_event()? {
///     println!("{:>10} {}", event.offset, event.header.kind);
/// }
/// # Ok::<(), binlog_replay::Error>(())
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    path: PathBuf,
    frames: Frames<R>,
    format: Option<FormatDescription>,
    in_use: bool,
    relay: bool,
    /// How the file would have ended with the last event.
    last: FileEnd,
    end: Option<FileEnd>,
    failed: bool,
}

impl Reader<File> {
    /// Opens a file; its first event, the format description, comes first.
    ///
    /// # Errors
    ///
    /// [`Error::NotABinlog`], [`Error::Encrypted`], [`Error::Read`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_file(path, false)
    }

    /// Opens a file and reads its format description, so that the event at `position` comes next.
    ///
    /// What lies between is not read: whoever gives a position has checked what is before it.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`], and what the format description itself can fail with.
    pub fn open_at(path: &Path, position: u64) -> Result<Self, Error> {
        let mut reader = Self::open(path)?;
        if position <= Position::FIRST {
            return Ok(reader);
        }
        reader.next_event()?;
        if position > reader.frames.offset() {
            let mut file = File::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
            file.seek(SeekFrom::Start(position))
                .map_err(|source| Error::Read { path: path.into(), source })?;
            reader.frames = Frames::new(file, path.into(), position, false);
        }
        Ok(reader)
    }

    /// As [`Reader::open`]; large events come with their beginnings only.
    pub(crate) fn skim(path: &Path) -> Result<Self, Error> {
        Self::open_file(path, true)
    }

    fn open_file(path: &Path, skim: bool) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Self::start(Frames::new(file, path.into(), 0, skim))
    }
}

impl<R: Read> Reader<R> {
    /// Reads a binlog from a stream; `name` stands for it in errors.
    ///
    /// # Errors
    ///
    /// As [`Reader::open`].
    pub fn new(input: R, name: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::start(Frames::new(input, name.into(), 0, false))
    }

    fn start(mut frames: Frames<R>) -> Result<Self, Error> {
        match frames.take::<4>()? {
            Some(MAGIC) => {}
            Some(ENCRYPTED_MAGIC) => {
                return Err(Error::Encrypted { path: frames.path().into(), flavor: Flavor::MySql });
            }
            _ => return Err(Error::NotABinlog { path: frames.path().into() }),
        }
        let path = frames.path().to_path_buf();
        let last = FileEnd::Silent;
        Ok(Self { path, frames, format: None, in_use: false, relay: false, last, end: None, failed: false })
    }

    /// The file's name in errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The format description, once it was read.
    pub fn format(&self) -> Option<&FormatDescription> {
        self.format.as_ref()
    }

    /// Whether the file was open when it was copied; known once the format description was read.
    pub fn in_use(&self) -> bool {
        self.in_use
    }

    /// Offset of the next event.
    pub fn offset(&self) -> u64 {
        self.frames.offset()
    }

    /// How the file ended; `None` before [`Reader::next_event`] returned `None`.
    pub fn end(&self) -> Option<&FileEnd> {
        self.end.as_ref()
    }

    /// The next event, or `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// Everything in [`Error`] that is about one file.
    #[inline]
    pub fn next_event(&mut self) -> Result<Option<RawEvent<'_>>, Error> {
        if self.advance()? { Ok(self.event()) } else { Ok(None) }
    }

    /// The event that was read last.
    #[inline]
    fn event(&self) -> Option<RawEvent<'_>> {
        let Frame { header, offset, bytes, checksum } = self.frames.last_frame()?;
        Some(RawEvent::new(header, offset, bytes, checksum, self.format.as_ref()?))
    }

    /// Reads and checks the next event; `false` at the end of the file.
    ///
    /// Apart from [`Self::event`], so that an event is made of its bytes where it is used: carrying it there, with its
    /// fields of one to eight bytes, took a tenth of a scan.
    #[inline(never)]
    fn advance(&mut self) -> Result<bool, Error> {
        if self.failed {
            return Err(Error::Failed { path: self.path.clone() });
        }
        if self.end.is_some() {
            return Ok(false);
        }
        self.failed = true;
        let frame = match self.frames.next_frame(self.format.as_ref()) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.failed = false;
                self.end = Some(match self.last.clone() {
                    FileEnd::Silent if self.in_use => FileEnd::Open { cut: None },
                    last => last,
                });
                return Ok(false);
            }
            Err(Error::Truncated { offset, .. }) if self.in_use => {
                self.failed = false;
                self.end = Some(FileEnd::Open { cut: Some(offset) });
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        let Frame { header, offset, bytes, checksum } = frame;
        let path = || self.path.clone();
        let malformed = |source| Error::Malformed { path: path(), offset, kind: header.kind, source };
        let body = bytes.get(Header::LEN..bytes.len() - checksum).unwrap_or_default();
        self.last = FileEnd::Silent;
        match header.kind {
            EventKind::FORMAT_DESCRIPTION => {
                let format = FormatDescription::parse(&bytes[Header::LEN..]).map_err(malformed)?;
                if self.format.is_none() {
                    self.in_use = header.has(Header::IN_USE);
                    self.relay = header.has(Header::RELAY_LOG);
                }
                self.format = Some(format);
            }
            EventKind::START_ENCRYPTION => {
                return Err(Error::Encrypted { path: path(), flavor: Flavor::MariaDb });
            }
            EventKind::STOP => self.last = FileEnd::Stop,
            EventKind::ROTATE => {
                let rotate = Rotate::parse(body).map_err(malformed)?;
                if !header.has(Header::ARTIFICIAL) {
                    self.last = FileEnd::Rotate { next: String::from_utf8_lossy(rotate.next).into_owned() };
                }
            }
            kind if kind.name().is_none() && !header.has(Header::IGNORABLE) => {
                return Err(Error::UnknownEvent { path: path(), offset, kind });
            }
            _ => {}
        }
        if self.format.is_none() {
            let why = "before the format description";
            return Err(Error::Order { path: path(), offset, kind: header.kind, why });
        }
        let actual = offset + u64::from(header.size);
        if header.next != 0 && header.next != actual as u32 && !self.relay && !header.has(Header::ARTIFICIAL)
        {
            let stated = header.next;
            return Err(Error::Displaced { path: path(), offset, kind: header.kind, stated, actual });
        }
        self.failed = false;
        Ok(true)
    }
}
