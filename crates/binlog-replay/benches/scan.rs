//! How fast files are indexed and read, from the page cache.
//!
//! `cargo bench -p binlog-replay --bench scan`; against the stock tool: `tests/bench/binlog-scan.sh`.

#[path = "../tests/common/build.rs"]
mod build;

use std::path::PathBuf;

use binlog_replay::{Flavor, Reader, scan_file};
use build::Log;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const UUID: &str = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa";

/// 64 MiB of transactions with `rows` row events of `bytes` bytes each.
fn file(folder: &std::path::Path, name: &str, rows: usize, bytes: usize) -> PathBuf {
    let mut log = Log::new(Flavor::MySql, 1, Some(""));
    let body = vec![0x5a; bytes];
    let mut number = 1;
    while log.pos() < 64 << 20 {
        for _ in 0..rows {
            log.gtid(&format!("{UUID}:{number}"), 1_700_000_000);
            log.query(1_700_000_000, "BEGIN");
            log.event(19, 0, 1_700_000_000, &body[..40]);
            log.event(30, 0, 1_700_000_000, &body);
            log.event(16, 0, 1_700_000_000, &7u64.to_le_bytes());
            number += 1;
        }
    }
    log.close(folder, name)
}

fn scan(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let mut group = c.benchmark_group("64 MiB");
    group.sample_size(20);
    for (name, bytes) in [("rows of 8 KiB", 8 << 10), ("rows of 100 bytes", 100), ("rows of 1 MiB", 1 << 20)]
    {
        let path = file(dir.path(), &format!("log.{bytes:06}"), 1, bytes);
        group.throughput(Throughput::Bytes(std::fs::metadata(&path).unwrap().len()));
        group.bench_function(format!("scan, {name}"), |b| {
            b.iter(|| {
                let info = scan_file(&path).unwrap();
                assert!(info.damage.is_none() && info.transactions > 0);
            });
        });
        group.bench_function(format!("read, {name}"), |b| {
            b.iter(|| {
                let mut reader = Reader::open(&path).unwrap();
                while reader.next_event().unwrap().is_some() {}
            });
        });
    }
}

criterion_group!(benches, scan);
criterion_main!(benches);
