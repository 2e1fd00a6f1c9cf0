//! The first line of a sealed stream.

use std::io::{self, Read};

use super::{Broken, CODE, Compression, Key};

/// How the checksum of a stream is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transfer) enum Checksum {
    /// CRC-32C (Castagnoli), by programs.
    Crc32c,
    /// That of POSIX `cksum`, by a stage of stock tools.
    Cksum,
}

/// What the first line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transfer) struct Header {
    pub(super) compression: Compression,
    pub(super) checksum: Checksum,
}

/// The longest first line, with its end, in bytes.
const LONGEST: u64 = 24;

impl Header {
    /// Of a stage of stock tools.
    pub(in crate::transfer) const STAGE: Self =
        Self { compression: Compression::None, checksum: Checksum::Cksum };

    /// Of a program that seals its stream itself.
    pub(super) const fn of_program(compression: Compression) -> Self {
        Self { compression, checksum: Checksum::Crc32c }
    }

    /// The line, without its end.
    pub(in crate::transfer) const fn line(self) -> &'static str {
        match (self.compression, self.checksum) {
            (Compression::None, Checksum::Crc32c) => "DBRsealed3 none crc32c",
            (Compression::Zstd, Checksum::Crc32c) => "DBRsealed3 zstd crc32c",
            (Compression::None, Checksum::Cksum) => "DBRsealed3 none cksum",
            (Compression::Zstd, Checksum::Cksum) => "DBRsealed3 zstd cksum",
        }
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let all = [Compression::None, Compression::Zstd].into_iter().flat_map(|compression| {
            [Checksum::Crc32c, Checksum::Cksum].map(|checksum| Self { compression, checksum })
        });
        all.into_iter().find(|header| line == header.line().as_bytes())
    }

    /// Reads the line and its code, and nothing behind them.
    pub(super) fn read(input: &mut impl Read, key: &Key) -> io::Result<Result<Self, Broken>> {
        let mut line = Vec::new();
        while line.len() < LONGEST as usize && line.last() != Some(&b'\n') {
            if input.by_ref().take(1).read_to_end(&mut line)? == 0 {
                break;
            }
        }
        let Some(header) = line.strip_suffix(b"\n").and_then(Self::parse) else {
            let begin = String::from_utf8_lossy(&line).into_owned();
            return Ok(Err(if line.is_empty() {
                Broken::Cut { bytes: 0 }
            } else {
                Broken::NotSealed { begin }
            }));
        };
        let mut code = Vec::new();
        input.by_ref().take(CODE as u64 + 1).read_to_end(&mut code)?;
        Ok(match code.strip_suffix(b"\n") {
            Some(code) if key.proves(header.line(), code) => Ok(header),
            None if code.len() <= CODE => Err(Broken::Cut { bytes: 0 }),
            _ => Err(Broken::Foreign),
        })
    }
}
