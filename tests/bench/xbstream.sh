#!/usr/bin/env bash
# Compares `dbrecover xbstream` with mbstream, cat, zstd and lz4, in one run. Prints times, ratios and peak memory.
# Needs hyperfine and what tests/setup.sh installs. In memory by default; on a disk with a directory there.
#
# usage: tests/bench/xbstream.sh [MEBIBYTES [DIRECTORY]]     (default 768 /dev/shm)
#
# env: DBRECOVER   the program, if it is built already
#      RUNS        runs of each command (default 7)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
size=${1:-768}
for tool in hyperfine mbstream zstd lz4 python3; do command -v "$tool" >/dev/null || { echo "$tool is missing; run tests/setup.sh" >&2; exit 1; }; done
dbrecover=${DBRECOVER:-}
if [ -z "$dbrecover" ]; then
    cargo build --release --quiet --bin dbrecover
    dbrecover=${CARGO_TARGET_DIR:-target}/release/dbrecover
fi
dbrecover=$(realpath "$dbrecover")
dir=$(mktemp -d "${2:-/dev/shm}/xbstream-bench.XXXXXX")
trap 'rm -rf "$dir"' EXIT
cd "$dir"

# Eight large files and 3,000 of 16 KiB; their bytes compress to about two thirds, as table spaces do.
python3 - "$size" <<'PYTHON'
import os, random, sys
size, r = int(sys.argv[1]) << 20, random.Random(1)
os.makedirs("src/large"); os.makedirs("src/small")
def block():
    rows = bytearray()
    while len(rows) < 1 << 20:
        rows += r.randbytes(40) + b"%09d customer name  " % r.randrange(10 ** 6) + bytes(8)
    return bytes(rows[:1 << 20])
blocks = [block() for _ in range(8)]
for i in range(8):
    with open(f"src/large/t{i}.ibd", "wb") as f:
        for j in range(size // 8 >> 20):
            f.write(blocks[(i + j) % 8])
for i in range(3000):
    open(f"src/small/s{i}.ibd", "wb").write(blocks[i % 8][16 * i:16 * i + 16384])
PYTHON
(cd src && mbstream -c large/* small/*) >plain.xbs
# The same as a backup with --parallel=4 sends it: chunks of several files by turns.
python3 - <<'PYTHON'
import glob, struct, zlib
with open("parallel.xbs", "wb") as out:
    names = sorted(glob.glob("src/large/*"))
    head = lambda name, kind: b"XBSTCK01\0" + kind + struct.pack("<I", len(name)) + name
    for group in (names[:4], names[4:]):
        files = [(name.removeprefix("src/").encode(), open(name, "rb")) for name in group]
        offset = 0
        while files:
            for name, file in list(files):
                data = file.read(10 << 20)
                if data:
                    out.write(head(name, b"P") + struct.pack("<QQI", len(data), offset, zlib.crc32(data)) + data)
                else:
                    out.write(head(name, b"E"))
                    files.remove((name, file))
            offset += 10 << 20
PYTHON
for kind in zst lz4; do
    mkdir -p "$kind/large"
    for file in src/large/*; do
        case $kind in
            zst) zstd -q -1 -c "$file" >"$kind/large/${file##*/}.zst" ;;
            lz4) lz4 -q -B4 -c "$file" >"$kind/large/${file##*/}.lz4" ;;
        esac
    done
    (cd $kind && mbstream -c large/*) >"$kind.xbs"
done
# One table of the same size, compressed as XtraBackup does it: each MiB a frame of its own.
mkdir one
cat src/large/* | split -b 1M --filter='zstd -q -1 -c' >one/t.ibd.zst
cat src/large/* | split -b 1M --filter='lz4 -q -B4 -c' >one/t.ibd.lz4
for kind in zst lz4; do (cd one && mbstream -c t.ibd.$kind) >"one-$kind.xbs"; done

x="$dbrecover xbstream -x -C out"
hyperfine --warmup 1 --runs "${RUNS:-7}" --export-json result.json --style none --prepare 'rm -rf out; mkdir out' \
    -n 'ours'             "$x <plain.xbs" \
    -n 'ours, from a pipe' "cat plain.xbs | $x" \
    -n 'mbstream'         'mbstream -x -C out <plain.xbs' \
    -n 'mbstream, from a pipe' 'cat plain.xbs | mbstream -x -C out' \
    -n 'ours, by turns'   "$x <parallel.xbs" \
    -n 'mbstream, by turns' 'mbstream -x -C out <parallel.xbs' \
    -n 'mbstream -p 2'    'mbstream -x -p 2 -C out <plain.xbs' \
    -n 'cat'              'cat <plain.xbs >out/all' \
    -n 'ours, zst'        "$x --decompress <zst.xbs" \
    -n 'zstd -d'          'for f in zst/large/*; do zstd -q -d -c $f >out/${f##*/}; done' \
    -n 'ours, lz4'        "$x --decompress <lz4.xbs" \
    -n 'lz4 -d'           'for f in lz4/large/*; do lz4 -q -d -c $f >out/${f##*/}; done' \
    -n 'ours, one zst'    "$x --decompress <one-zst.xbs" \
    -n 'ours, one zst, 1 thread' "$x -p 1 --decompress <one-zst.xbs" \
    -n 'zstd -d, one'     'zstd -q -d -c one/t.ibd.zst >out/t' \
    -n 'ours, one lz4'    "$x --decompress <one-lz4.xbs" \
    -n 'lz4 -d, one'      'lz4 -q -d -c one/t.ibd.lz4 >out/t' \
    -n 'ours, create'     "cd src && $dbrecover xbstream -c large/* small/* >../out/made" \
    -n 'mbstream, create' 'cd src && mbstream -c large/* small/* >../out/made' >/dev/null

# 100,000 files of 512 bytes, in memory wherever the rest lies.
rm -rf out src zst lz4 one
python3 - >many.xbs <<'PYTHON'
import struct, sys, zlib
out, data = sys.stdout.buffer, bytes(range(256)) * 2
for i in range(100000):
    path = b"d%d/t%d.ibd" % (i // 1000, i)
    head = lambda kind: b"XBSTCK01\0" + kind + struct.pack("<I", len(path)) + path
    out.write(head(b"P") + struct.pack("<QQI", len(data), 0, zlib.crc32(data)) + data + head(b"E"))
PYTHON
python3 - "$dbrecover" <<'PYTHON'
import json, os, resource, subprocess, sys, time
results = {r["command"]: r["times"] for r in json.load(open("result.json"))["results"]}
cpu = {r["command"]: r["user"] + r["system"] for r in json.load(open("result.json"))["results"]}
for name, times in results.items():
    median = sorted(times)[len(times) // 2]
    print(f"{name:24} {min(times):7.3f} s   median {median:7.3f} s   processor {cpu[name]:7.3f} s")
best = {name: min(times) for name, times in results.items()}
print()
for ours, stock in (("ours", "mbstream"), ("ours, by turns", "mbstream, by turns"), ("ours", "mbstream -p 2"), ("ours", "cat"), ("ours, from a pipe", "mbstream, from a pipe"),
                    ("ours, zst", "zstd -d"), ("ours, lz4", "lz4 -d"),
                    ("ours, one zst", "zstd -d, one"), ("ours, one lz4", "lz4 -d, one"), ("ours, create", "mbstream, create")):
    print(f"{ours}: {best[stock] / best[ours]:.2f} times the speed of {stock}")
peaks = {}
for archive, options in (("plain.xbs", []), ("zst.xbs", ["--decompress"]), ("lz4.xbs", ["--decompress"]),
                         ("one-zst.xbs", ["--decompress"]), ("one-lz4.xbs", ["--decompress"]), ("many.xbs", [])):
    subprocess.run(["rm", "-rf", "out"], check=True)
    start = time.monotonic()
    child = subprocess.Popen([sys.argv[1], "xbstream", "-x", "-C", "out", *options], stdin=open(archive))
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0
    print(f"{archive}: peak memory {usage.ru_maxrss / 1024:.1f} MiB, {time.monotonic() - start:.2f} s")
PYTHON
