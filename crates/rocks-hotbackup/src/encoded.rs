//! The files of a directory backup, which may be compressed and encrypted one by one.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use crate::Error;

/// Bytes that are read at once.
const BUFFER: usize = 256 * 1024;

/// A file of a directory backup as it is.
pub(crate) fn plain(path: &Path) -> Result<Box<dyn Read>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}

/// A file of a directory backup, decoded according to the endings of its name, and its name without them.
pub(crate) fn decoded(
    path: &Path,
    name: &Path,
    password: Option<&SecretString>,
) -> Result<(Box<dyn Read>, PathBuf), Error> {
    let mut reader = plain(path)?;
    let mut name = name.to_owned();
    if name.extension().is_some_and(|e| e == "aes") {
        let Some(password) = password else { return Err(Error::PasswordNeeded { path: path.to_owned() }) };
        let decryptor = aescrypt::Decryptor::new(reader, password)
            .map_err(|e| Error::Decrypt { path: path.to_owned(), source: e.into() })?;
        reader = Box::new(decryptor);
        name.set_extension("");
    }
    if name.extension().is_some_and(|e| e == "zst") {
        reader = Box::new(zstd::stream::read::Decoder::new(reader).map_err(Error::io("read", path))?);
        name.set_extension("");
    }
    Ok((reader, name))
}
