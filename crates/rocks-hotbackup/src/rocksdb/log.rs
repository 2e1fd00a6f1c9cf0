//! The log format of RocksDB, in which MANIFEST files are written: records in blocks of 32 KiB.
//!
//! | bytes | field |
//! |---|---|
//! | 4 | CRC-32C of type and payload (and log number), masked |
//! | 2 | payload length |
//! | 1 | type: 1 whole, 2 first, 3 middle, 4 last; 5 to 8 the same with a log number |
//! | 4 | types 5 to 8 only: number of the log, to tell the rest of a reused file |
//!
//! A block's last bytes are zero where no header fits. All numbers are little-endian.

use std::io::{self, Read};

use super::crc32c::{crc32c, mask};

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;

/// Longest record that is put together, in bytes. The first record of a MANIFEST names all files at once: 64 MiB are
/// enough for half a million.
const MAX_RECORD: usize = 64 * 1024 * 1024;

/// Why a log cannot be read further.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    At { offset: u64, reason: &'static str },
}

/// The records of a log, one by one.
pub(super) struct Records<R> {
    reader: R,
    block: Vec<u8>,
    /// The place in the block.
    at: usize,
    /// Bytes of the file before the block.
    before: u64,
    last_block: bool,
    record: Vec<u8>,
}

impl<R: Read> Records<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, block: Vec::new(), at: 0, before: 0, last_block: false, record: Vec::new() }
    }

    pub(super) fn offset(&self) -> u64 {
        self.before + self.at as u64
    }

    /// The next record, or `None` at the end. A file that stops inside a record is broken: a checkpoint's MANIFEST
    /// is cut at a record's end.
    pub(super) fn next_record(&mut self) -> Result<Option<&[u8]>, Broken> {
        self.record.clear();
        let mut begun = false;
        loop {
            if self.block.len() - self.at < HEADER {
                if self.last_block {
                    let rest = &self.block[self.at..];
                    return match begun || rest.iter().any(|b| *b != 0) {
                        true => Err(self.broken("it stops inside a record")),
                        false => Ok(None),
                    };
                }
                self.next_block()?;
                continue;
            }
            let header = &self.block[self.at..self.at + HEADER];
            let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            let len = usize::from(u16::from_le_bytes([header[4], header[5]]));
            let kind = header[6];
            if kind == 0 && len == 0 && crc == 0 {
                // Space that was reserved and never written.
                return match begun {
                    true => Err(self.broken("it stops inside a record")),
                    false => Ok(None),
                };
            }
            let recycled = if (5..=8).contains(&kind) { 4 } else { 0 };
            let start = self.at + HEADER;
            let Some(body) = self.block.get(start..start + recycled + len) else {
                return Err(self.broken("a record is longer than the file"));
            };
            if mask(crc32c(&[&[kind], body])) != crc {
                return Err(self.broken("the checksum of a record is wrong"));
            }
            if self.record.len() + len > MAX_RECORD {
                return Err(self.broken("a record is too long"));
            }
            let part = match kind {
                1..=4 => kind,
                5..=8 => kind - 4,
                _ => return Err(self.broken("a record has an unknown type")),
            };
            if begun != matches!(part, 3 | 4) {
                return Err(self.broken("the parts of a record do not fit"));
            }
            self.record.extend_from_slice(&body[recycled..]);
            self.at = start + recycled + len;
            begun = true;
            if matches!(part, 1 | 4) {
                return Ok(Some(&self.record));
            }
        }
    }

    fn next_block(&mut self) -> Result<(), Broken> {
        self.before += self.block.len() as u64;
        self.at = 0;
        self.block.clear();
        let n = self.reader.by_ref().take(BLOCK as u64).read_to_end(&mut self.block).map_err(Broken::Io)?;
        self.last_block = n < BLOCK;
        Ok(())
    }

    fn broken(&self, reason: &'static str) -> Broken {
        Broken::At { offset: self.offset(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log as RocksDB writes it.
    fn write(records: &[Vec<u8>]) -> Vec<u8> {
        let mut log = Vec::new();
        for record in records {
            let mut rest = &record[..];
            let mut first = true;
            loop {
                let left = BLOCK - log.len() % BLOCK;
                if left < HEADER {
                    log.extend(std::iter::repeat_n(0, left));
                    continue;
                }
                let (now, later) = rest.split_at(rest.len().min(left - HEADER));
                let kind = match (first, later.is_empty()) {
                    (true, true) => 1,
                    (true, false) => 2,
                    (false, false) => 3,
                    (false, true) => 4,
                };
                log.extend(mask(crc32c(&[&[kind], now])).to_le_bytes());
                log.extend((now.len() as u16).to_le_bytes());
                log.push(kind);
                log.extend(now);
                (first, rest) = (false, later);
                if rest.is_empty() {
                    break;
                }
            }
        }
        log
    }

    fn read(log: &[u8]) -> Result<Vec<Vec<u8>>, Broken> {
        let mut records = Records::new(log);
        let mut all = Vec::new();
        while let Some(record) = records.next_record()? {
            all.push(record.to_vec());
        }
        Ok(all)
    }

    #[test]
    fn records_of_every_length_around_a_block_come_back() {
        for len in
            [0, 1, BLOCK - 15, BLOCK - 14, BLOCK - 13, BLOCK - 8, BLOCK - 7, BLOCK - 6, BLOCK, 3 * BLOCK + 5]
        {
            let records = vec![vec![1; len], vec![2; 7], vec![3; len / 2]];
            assert_eq!(read(&write(&records)).unwrap(), records, "{len}");
        }
    }

    #[test]
    fn every_cut_is_noticed_or_falls_between_two_records() {
        let records = vec![vec![1; 40], vec![2; 50], vec![3; 60]];
        let log = write(&records);
        let ends = [0, 47, 104, log.len()];
        for cut in 0..=log.len() {
            let result = read(&log[..cut]);
            match ends.iter().position(|e| *e == cut) {
                Some(n) => assert_eq!(result.unwrap(), records[..n]),
                None => assert!(matches!(result, Err(Broken::At { .. })), "cut at {cut}"),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let records = vec![vec![1; 40], vec![2; 50]];
        let log = write(&records);
        for byte in 0..log.len() {
            for bit in 0..8 {
                let mut bad = log.clone();
                bad[byte] ^= 1 << bit;
                assert!(read(&bad).is_err(), "bit {bit} of byte {byte}");
            }
        }
    }
}
