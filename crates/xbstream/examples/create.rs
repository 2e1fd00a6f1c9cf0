//! Writes an archive of the files named to standard output: `create FILE…`.

use std::error::Error;
use std::fs::File;
use std::os::fd::AsFd;

use xbstream::Writer;

fn main() -> Result<(), Box<dyn Error>> {
    let output = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let writer = Writer::new(output);
    for path in std::env::args().skip(1) {
        writer.append(&path, File::open(&path)?)?;
    }
    writer.finish()?;
    Ok(())
}
