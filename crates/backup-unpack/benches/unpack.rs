//! A backup of 96 MiB in each of its forms, beside writing the same bytes to one file.
//!
//! `cargo bench -p backup-unpack`, in a temporary directory; with `TMPDIR=/dev/shm` the disk is left out.
//! Read the figures as ratios of one run.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use aescrypt::Encryptor;
use backup_unpack::{Format, Layout, Options, Progress, Source, unpack};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use secrecy::SecretString;

const NAME: &str = "UTC20261120010203.004-full";
const SERVER: &str = "ds-db1-10.0.0.5-3306";

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state >> 16).to_le_bytes()[..6]);
    }
    bytes.truncate(length);
    bytes
}

fn store(dir: &Path) -> Vec<u8> {
    let folder = dir.join("store").join(NAME).join(SERVER);
    fs::create_dir_all(&folder).unwrap();
    let writer = xbstream::Writer::new(fs::File::create(folder.join("backup.xbsteam")).unwrap());
    let table = noise(8 << 20);
    for i in 0..12 {
        writer.append(format!("app/t{i}.ibd"), &table[..]).unwrap();
    }
    writer.append("xtrabackup_checkpoints", &b"backup_type = full-backuped\n"[..]).unwrap();
    writer.finish().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(NAME, dir.join("store").join(NAME)).unwrap();
    tar.into_inner().unwrap()
}

fn benchmarks(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let tar = store(dir.path());
    let password = SecretString::from("bench");
    let mut writer = Encryptor::new(Vec::new(), &password).unwrap();
    writer.write_all(&tar).unwrap();
    let encrypted = writer.finish().unwrap();

    let mut options = Options::default();
    options.sync = false;
    let work = dir.path().join("work");
    let layout = Layout::new(&work, NAME).server(SERVER, work.join("data"));
    let run = |source: Source<'_>| {
        unpack(source, &layout, &options, &Progress::default()).unwrap();
        fs::remove_dir_all(&work).unwrap();
    };
    let read = |bytes: &[u8]| -> Source<'static> {
        // The bytes outlive the benchmark; a source wants no more of them than that they can be read.
        let bytes: Box<dyn Read> = Box::new(std::io::Cursor::new(bytes.to_vec()));
        Source::from_reader(bytes, Format::Auto, Some(password.clone())).unwrap()
    };

    let mut group = c.benchmark_group("unpack");
    group.sample_size(10).throughput(Throughput::Bytes(tar.len() as u64));
    group.bench_function("write one file", |b| {
        b.iter(|| {
            fs::create_dir_all(&work).unwrap();
            fs::write(work.join("file"), &tar).unwrap();
            fs::remove_dir_all(&work).unwrap();
        });
    });
    group.bench_function("folder", |b| b.iter(|| run(Source::Folder(dir.path().join("store").join(NAME)))));
    group.bench_function("tar", |b| {
        b.iter_batched(|| read(&tar), run, criterion::BatchSize::PerIteration);
    });
    group.bench_function("encrypted tar", |b| {
        b.iter_batched(|| read(&encrypted), run, criterion::BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
