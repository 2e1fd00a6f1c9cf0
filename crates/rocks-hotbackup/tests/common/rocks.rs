//! Files of RocksDB with right checksums around any contents.

/// CRC-32C bit by bit, as its definition says.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}

fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// A log with one whole record for each of `records`, which fit into its first block.
pub(crate) fn log<'a>(records: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut log = Vec::new();
    for record in records {
        let body = [&[1], record].concat();
        if log.len() + 6 + body.len() > 32 * 1024 {
            break;
        }
        log.extend(masked(&body));
        log.extend((record.len() as u16).to_le_bytes());
        log.extend(body);
    }
    log
}

/// An SST file of format version 5: `data` as its only data block, then the meta index and the index, each with the
/// compression named.
pub(crate) fn sst(data: &[u8], meta: (u8, &[u8]), index: (u8, &[u8])) -> Vec<u8> {
    let mut file = Vec::new();
    let mut handles = Vec::new();
    for (method, block) in [(0, data), meta, index] {
        handles.push((file.len() as u64, block.len() as u64));
        let stored = [block, &[method]].concat();
        file.extend(&stored);
        file.extend(masked(&stored));
    }
    let mut footer = vec![1];
    for (offset, size) in &handles[1..] {
        varint(&mut footer, *offset);
        varint(&mut footer, *size);
    }
    footer.resize(41, 0);
    footer.extend(5_u32.to_le_bytes());
    footer.extend(0x88e2_41b7_85f4_cff7_u64.to_le_bytes());
    file.extend(footer);
    file
}

/// An index block for blocks at these places, as format version 5 writes it, without shared prefixes.
pub(crate) fn index(handles: &[(u64, u64)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (number, (offset, size)) in handles.iter().enumerate() {
        block.extend([0, 1, b'a' + number as u8]);
        varint(&mut block, *offset);
        varint(&mut block, *size);
    }
    block.extend([0; 4]);
    block.extend(1_u32.to_le_bytes());
    block
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
