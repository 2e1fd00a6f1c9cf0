//! The key of encrypted members: 16 to 32 bytes, which lie in a file of their own.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use ::xbstream::member::{Algorithm, Key};
use dbrecover_cli::{Exit, Failure};

/// Whatever is longer than this is another file.
const MAX: u64 = 4096;

/// Reads the key in a file.
pub(crate) fn read(algorithm: Algorithm, path: &Path) -> Result<Key, Failure> {
    let failed = |error: anyhow::Error| {
        Failure::new(Exit::Usage, error.context(format!("cannot read the key file {}", path.display())))
    };
    let mut bytes = Vec::with_capacity(MAX as usize + 1);
    File::open(path)
        .and_then(|file| file.take(MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| failed(error.into()))?;
    Key::new(algorithm, bytes.into()).map_err(|error| {
        failed(error.into()).hint("write the key file without a line end: printf %s KEY > FILE")
    })
}
