//! Rates of reading, writing and decoding, in memory; the whole command is measured in `tests/bench/xbstream.sh`.

use std::hint::black_box;
use std::io::{self, Write};
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use xbstream::member::{Algorithm, Decoding, Key, decode};
use xbstream::{Reader, Writer, list};

#[path = "../tests/common/encode.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod encode;

const SIZE: usize = 16 << 20;

/// Something like a table's pages: rows that resemble each other, and free space.
fn pages() -> Vec<u8> {
    let mut state = 1_u32;
    let mut data = Vec::with_capacity(SIZE);
    while data.len() < SIZE {
        for _ in 0..120 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            write!(data, "{:08x}|customer {:05}|", state, state >> 17 & 4095).expect("memory");
            data.extend(state.to_be_bytes());
        }
        data.resize(data.len() + 4000, 0);
    }
    data.truncate(SIZE);
    data
}

fn decoders(c: &mut Criterion) {
    let plain = pages();
    let noise: Vec<u8> = {
        let mut state = 7_u64;
        (0..SIZE)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect()
    };
    let key = Key::new(Algorithm::Aes256, vec![7; 32].into()).expect("32 bytes");
    let decoding = Decoding::none().decompress(true).decrypt(key);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(SIZE as u64)).sample_size(20);
    for (name, file, member) in [
        ("qp pages", "a.qp", encode::qpress("a", &plain, 65536)),
        ("qp noise, stored", "a.qp", encode::qpress("a", &noise, 65536)),
        ("lz4 pages", "a.lz4", encode::lz4(&plain, 10 << 20, false)),
        ("zst pages", "a.zst", encode::zstd(&plain, 10 << 20, true)),
        ("xbcrypt v3", "a.xbcrypt", encode::xbcrypt(3, &[7; 32], &plain, 65536)),
        (
            "qp in xbcrypt",
            "a.qp.xbcrypt",
            encode::xbcrypt(3, &[7; 32], &encode::qpress("a", &plain, 65536), 65536),
        ),
    ] {
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| decode(Path::new(file), &decoding, black_box(&member[..]), io::sink()).expect("whole"));
        });
    }
    group.finish();
}

fn archives(c: &mut Criterion) {
    let plain = pages();
    let writer = Writer::new(Vec::new());
    writer.append("t.ibd", &plain[..]).expect("memory");
    let archive = writer.finish().expect("memory");
    let mut group = c.benchmark_group("archive");
    group.throughput(Throughput::Bytes(SIZE as u64)).sample_size(20);
    group.bench_function("list one large file", |b| {
        b.iter(|| list(&mut Reader::new(black_box(&archive[..])), |_| {}).expect("whole"));
    });
    for chunk in [256 << 10, 1 << 20, xbstream::CHUNK_SIZE] {
        group.bench_with_input(BenchmarkId::new("write, chunks of", chunk), &chunk, |b, chunk| {
            b.iter(|| {
                let writer = Writer::with_chunk_size(io::sink(), *chunk);
                writer.append("t.ibd", black_box(&plain[..])).expect("memory");
                writer.finish().expect("memory");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decoders, archives);
criterion_main!(benches);
