//! Whole files, finished or not there.
//!
//! The output is written beside its place under a temporary name, synced, and renamed when the stream's end
//! has been seen and its HMAC agreed. Whatever fails before that leaves an existing output as it was, and no
//! other.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use secrecy::SecretString;
use tempfile::NamedTempFile;

use crate::{Error, Format, decrypt, encrypt};

/// Mode of a new file, from which the umask takes.
const NEW_FILE: u32 = 0o666;

/// Decrypts the file `input` to the file `output`; the number of plaintext bytes.
///
/// An existing `output` is replaced, with its mode, and only after the whole stream was verified.
///
/// # Errors
///
/// Everything of [`Decryptor`](crate::Decryptor), [`Error::File`], [`Error::Write`], [`Error::SameFile`], [`Error::NotRegular`].
pub fn decrypt_file(input: &Path, output: &Path, password: &SecretString) -> Result<u64, Error> {
    decrypt_to_file(open(input, output)?, output, password)
}

/// Decrypts a stream to the file `output`, as [`decrypt_file`] does.
///
/// # Errors
///
/// As [`decrypt_file`]. An error of `input` is [`Error::Read`].
pub fn decrypt_to_file(input: impl Read, output: &Path, password: &SecretString) -> Result<u64, Error> {
    let mut output = Output::create(output)?;
    let written = decrypt(input, output.file.as_file_mut(), password)?;
    output.commit()?;
    Ok(written)
}

/// Encrypts the file `input` to the file `output`; the number of plaintext bytes.
///
/// # Errors
///
/// Everything of [`Encryptor`](crate::Encryptor), [`Error::Read`], [`Error::File`], [`Error::SameFile`], [`Error::NotRegular`].
pub fn encrypt_file(
    input: &Path,
    output: &Path,
    password: &SecretString,
    format: Format,
) -> Result<u64, Error> {
    encrypt_to_file(open(input, output)?, output, password, format)
}

/// Encrypts `input` to the file `output`, as [`encrypt_file`] does.
///
/// # Errors
///
/// As [`encrypt_file`].
pub fn encrypt_to_file(
    input: impl Read,
    output: &Path,
    password: &SecretString,
    format: Format,
) -> Result<u64, Error> {
    let mut output = Output::create(output)?;
    let read = encrypt(input, output.file.as_file_mut(), password, format)?;
    output.commit()?;
    Ok(read)
}

fn open(input: &Path, output: &Path) -> Result<File, Error> {
    let fail = |source| Error::File { action: "opening", path: input.to_owned(), source };
    let file = File::open(input).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if let Ok(existing) = fs::metadata(output)
        && (existing.dev(), existing.ino()) == (metadata.dev(), metadata.ino())
    {
        return Err(Error::SameFile { path: output.to_owned() });
    }
    Ok(file)
}

/// A file under a temporary name that is removed on drop, unless it was committed.
struct Output {
    file: NamedTempFile,
    path: PathBuf,
    directory: PathBuf,
}

impl Output {
    fn create(path: &Path) -> Result<Self, Error> {
        let fail = |source| Error::File { action: "creating", path: path.to_owned(), source };
        // A link is followed, as writing to it would: the file it names is replaced, not the link.
        let (path, mode) = match fs::metadata(path) {
            Ok(existing) if !existing.is_file() => return Err(Error::NotRegular { path: path.to_owned() }),
            Ok(existing) => (fs::canonicalize(path).map_err(fail)?, Some(existing.mode() & 0o777)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (path.to_owned(), None),
            Err(source) => return Err(fail(source)),
        };
        let directory = match path.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
            _ => PathBuf::from("."),
        };
        let file = tempfile::Builder::new()
            .prefix(".aescrypt-")
            .suffix(".partial")
            .permissions(fs::Permissions::from_mode(NEW_FILE))
            .tempfile_in(&directory)
            .map_err(fail)?;
        if let Some(mode) = mode {
            file.as_file().set_permissions(fs::Permissions::from_mode(mode)).map_err(fail)?;
        }
        Ok(Self { file, path, directory })
    }

    fn commit(self) -> Result<(), Error> {
        let Self { file, path, directory } = self;
        file.as_file().sync_all().map_err(Error::Write)?;
        file.persist(&path).map_err(|error| Error::File {
            action: "renaming to",
            path: path.clone(),
            source: error.error,
        })?;
        // The new name is on disk only when its directory is; not every file system lets a directory be synced.
        if let Ok(directory) = File::open(directory) {
            let _ = directory.sync_all();
        }
        Ok(())
    }
}
