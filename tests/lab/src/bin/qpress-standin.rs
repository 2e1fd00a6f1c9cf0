//! A stand-in for qpress, which is not in Debian: `qpress -dio` as `mariabackup --decompress` calls it, from standard input
//! to standard output. The decoder is this workspace's own.

use std::io;
use std::path::Path;

use anyhow::{Result, ensure};
use xbstream::member::{Decoding, decode};

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    ensure!(arguments == ["-dio"], "this stand-in knows `qpress -dio` only, not {arguments:?}");
    let decoding = Decoding::none().decompress(true);
    decode(Path::new("member.qp"), &decoding, io::stdin().lock(), &mut io::stdout().lock())?;
    Ok(())
}
