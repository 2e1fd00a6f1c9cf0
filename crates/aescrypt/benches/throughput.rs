//! Throughput beside its bound: SHA-256 of the same bytes in one thread.
//!
//! `cargo bench -p aescrypt`; read the figures as ratios of one run.

use std::hint::black_box;
use std::io::{self, Write};

use aescrypt::{Decryptor, Encryptor, Format};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use secrecy::SecretString;
use sha2::{Digest, Sha256};

fn throughput(c: &mut Criterion) {
    let password = SecretString::from("bench");
    let mut group = c.benchmark_group("throughput");
    group.sample_size(10);
    for mebibytes in [1_usize, 64] {
        let plain: Vec<u8> =
            (0..mebibytes << 20).map(|i| (i as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
        let mut encryptor = Encryptor::new(Vec::new(), &password).unwrap();
        encryptor.write_all(&plain).unwrap();
        let stream = encryptor.finish().unwrap();
        group.throughput(Throughput::Bytes(plain.len() as u64));
        group.bench_with_input(BenchmarkId::new("sha256", mebibytes), &plain, |b, plain| {
            b.iter(|| black_box(Sha256::digest(plain)));
        });
        group.bench_with_input(BenchmarkId::new("decrypt", mebibytes), &stream, |b, stream| {
            b.iter(|| {
                let mut reader = Decryptor::new(&stream[..], &password).unwrap();
                io::copy(&mut reader, &mut io::sink()).unwrap()
            });
        });
        group.bench_with_input(BenchmarkId::new("encrypt", mebibytes), &plain, |b, plain| {
            b.iter(|| {
                let mut writer = Encryptor::with_format(io::sink(), &password, Format::V2).unwrap();
                writer.write_all(plain).unwrap();
                writer.finish().unwrap();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, throughput);
criterion_main!(benches);
