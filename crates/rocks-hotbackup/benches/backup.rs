//! Backups of 256 MiB in data files and of 2,000 small files into a pipe that is read, beside `cat` of the same bytes.
//!
//! `cargo bench -p rocks-hotbackup`; with `TMPDIR=/dev/shm` the disk is left out. Read the figures as ratios of one run. The
//! server is none: its checkpoint is a directory of hard links, as a real one's. `tests/bench/myrocks.sh` has a server.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rocks_hotbackup::server::{Facts, Lock, Position};
use rocks_hotbackup::sink::{Encoding, Output, TarSink, XbstreamSink};
use rocks_hotbackup::{Checksum, Error, LeftOut, Options, Server, Sink, Stop, SystemClock, backup};

const DATA_FILES: u32 = 8;

struct Still(Facts);

impl Server for Still {
    fn facts(&mut self) -> Result<Facts, Error> {
        Ok(self.0.clone())
    }
    fn create_checkpoint(&mut self, dir: &Path) -> Result<(), Error> {
        fs::create_dir(dir).unwrap();
        for file in fs::read_dir(&self.0.rocksdb_datadir).unwrap().map(Result::unwrap) {
            fs::hard_link(file.path(), dir.join(file.file_name())).unwrap();
        }
        Ok(())
    }
    fn position(&mut self) -> Result<Option<Position>, Error> {
        Ok(None)
    }
    fn lock(&mut self) -> Result<Lock, Error> {
        Ok(Lock::GlobalRead)
    }
    fn unlock(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn left_out(&mut self) -> Result<Vec<LeftOut>, Error> {
        Ok(Vec::new())
    }
}

/// Runs `write` with a pipe whose other end is read to its end.
fn through_a_pipe(write: impl FnOnce(io::PipeWriter)) {
    let (mut reader, writer) = io::pipe().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut buffer = vec![0; 128 * 1024];
            while reader.read(&mut buffer).unwrap() > 0 {}
        });
        write(writer);
    });
}

fn take(facts: &Facts, checksum: Checksum, sink: impl FnOnce(Output) -> Box<dyn Sink>) {
    let mut options = Options::default();
    options.checkpoint_dir = facts.datadir.with_extension("checkpoints");
    options.checksum = checksum;
    options.skip_definition_check = true;
    through_a_pipe(|pipe| {
        let mut sink = sink(Output::descriptor(&pipe, &Encoding::default()).unwrap());
        let (mut server, clock) = (Still(facts.clone()), SystemClock::default());
        backup(&mut server, sink.as_mut(), &clock, &options, &Stop::new(), &mut |_| {}).unwrap();
    });
}

/// `cat` as it is: a read and a write of 128 KiB at a time.
fn cat(files: &[PathBuf], mut pipe: io::PipeWriter) {
    let mut buffer = vec![0; 128 * 1024];
    for path in files {
        let mut file = fs::File::open(path).unwrap();
        loop {
            match file.read(&mut buffer).unwrap() {
                0 => break,
                n => pipe.write_all(&buffer[..n]).unwrap(),
            }
        }
    }
}

/// RocksDB's smallest database: `CURRENT` and a MANIFEST that needs no file.
fn server(dir: &Path, name: &str) -> Facts {
    let datadir = dir.join(name);
    let rocksdb_datadir = datadir.join("#rocksdb");
    fs::create_dir_all(&rocksdb_datadir).unwrap();
    fs::write(rocksdb_datadir.join("CURRENT"), "MANIFEST-000004\n").unwrap();
    Facts { datadir, rocksdb_datadir, ..Facts::default() }
}

fn benchmarks(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let tar = |out| Box::new(TarSink::new(out)) as Box<dyn Sink>;

    let large = server(dir.path(), "large");
    let block: Vec<u8> = (0..1_u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let files: Vec<_> =
        (0..DATA_FILES).map(|n| large.rocksdb_datadir.join(format!("{:06}.sst", 10 + n))).collect();
    for path in &files {
        let mut file = fs::File::create(path).unwrap();
        (0..32).for_each(|_| file.write_all(&block).unwrap());
    }
    let mut group = c.benchmark_group("large");
    group.sample_size(10).throughput(Throughput::Bytes(u64::from(DATA_FILES) << 25));
    group.bench_function("cat", |b| b.iter(|| through_a_pipe(|pipe| cat(&files, pipe))));
    for (name, checksum) in [
        ("tar", Checksum::Crc32),
        ("tar without checksums", Checksum::None),
        ("tar, sha256", Checksum::Sha256),
    ] {
        group.bench_function(name, |b| b.iter(|| take(&large, checksum, tar)));
    }
    group.bench_function("xbstream", |b| {
        b.iter(|| take(&large, Checksum::Crc32, |out| Box::new(XbstreamSink::new(out))));
    });
    group.finish();

    let small = server(dir.path(), "small");
    fs::create_dir(small.datadir.join("db")).unwrap();
    for number in 0..2000 {
        fs::write(small.datadir.join(format!("db/t{number}.MYD")), [7; 2048]).unwrap();
    }
    let mut group = c.benchmark_group("2,000 small files");
    group.sample_size(10).throughput(Throughput::Elements(2000));
    group.bench_function("tar", |b| b.iter(|| take(&small, Checksum::Crc32, tar)));
    group.finish();
}

criterion_group!(benches, benchmarks);
criterion_main!(benches);
