//! Extracts the archive on standard input: `extract DIR [THREADS]`, members decompressed.

use std::error::Error;
use std::os::fd::AsFd;

use xbstream::member::Decoding;
use xbstream::{ExtractOptions, Reader, extract};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let target = args.next().ok_or("usage: extract DIR [THREADS] < ARCHIVE")?;
    let mut options = ExtractOptions::new().decoding(Decoding::none().decompress(true));
    if let Some(threads) = args.next() {
        options = options.threads(threads.parse()?);
    }
    // Standard input without the buffer that Rust puts in front of it.
    let input = std::fs::File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let done = extract(Reader::new(input), target, &options)?;
    println!("{} files, {} bytes, {} of them decoded", done.files, done.bytes, done.decoded);
    Ok(())
}
