#!/usr/bin/env bash
# Compares `myrocks-hotbackup` with the program before it, with tar and with cat, in one run on one MariaDB server:
# first with large data files, from memory and from the disk, then with many small files beside them. Prints seconds, processor time and ratios.
# Needs hyperfine and what tests/setup.sh installs.
#
# usage: tests/bench/myrocks.sh [MEGABYTES] [SMALL_FILES] [RUNS]     (default 1024 9000 5)
#
# env: MYROCKS_HOTBACKUP   the program, if it is built already
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
size=${1:-1024} small=${2:-9000} runs=${3:-5}
for tool in hyperfine mariadbd mbstream; do command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }; done
hot=${MYROCKS_HOTBACKUP:-}
if [ -z "$hot" ]; then
    cargo build --release --quiet -p dbrecover --bin myrocks-hotbackup
    hot=${CARGO_TARGET_DIR:-$PWD/target}/release/myrocks-hotbackup
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/myrocks-bench.XXXXXX")
server=
finish() { [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true; rm -rf "$dir"; }
trap finish EXIT
trap 'exit 130' INT TERM

mariadb-install-db --no-defaults --user="$(id -un)" --auth-root-authentication-method=normal --skip-test-db \
    --datadir="$dir/data" >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
mariadbd --no-defaults --user="$(id -un)" --datadir="$dir/data" --socket="$dir/s" --pid-file="$dir/pid" \
    --skip-networking --skip-log-bin --plugin-load-add=ha_rocksdb.so >"$dir/log" 2>&1 &
server=$!
for _ in $(seq 300); do mariadb-admin --no-defaults -uroot -S "$dir/s" ping >/dev/null 2>&1 && break; sleep 0.1; done
sql() { mariadb --no-defaults -uroot -N -B -S "$dir/s" -e "$1"; }

sql "CREATE DATABASE d; CREATE TABLE d.t (id INT PRIMARY KEY, v VARBINARY(4000)) ENGINE=ROCKSDB"
rows=$((size * 256)) step=$((64 * 256))
for ((from = 1; from <= rows; from += step)); do
    sql "SET rocksdb_bulk_load = 1; INSERT INTO d.t SELECT seq, CONCAT(RANDOM_BYTES(1000), RANDOM_BYTES(1000), RANDOM_BYTES(1000), RANDOM_BYTES(1000)) FROM d.seq_${from}_to_$((from + step - 1)); SET rocksdb_bulk_load = 0"
done
sql "SET GLOBAL rocksdb_force_flush_memtable_now = 1"
data="$dir/data/#rocksdb"
mkdir "$dir/bin" "$dir/snap"
printf '#!/bin/sh\nexec mbstream "$@"\n' >"$dir/bin/xbstream"; chmod 755 "$dir/bin/xbstream"
export PATH="$dir/bin:$PATH"

ours="$hot -S $dir/s -c $dir/snap -q"
theirs="/usr/bin/python3 /usr/bin/myrocks_hotbackup --socket=$dir/s --checkpoint_dir=$dir/snap"
pipe='set -o pipefail;'
measure() { # NAME RUNS WARMUP: the archives go through a pipe to a reader that reads
    local more=()
    [ "$1" = small ] || more=(
        -n 'tar, no checksums'      "$pipe $ours --checksum none | cat >/dev/null"
        -n 'tar, sha256'            "$pipe $ours --checksum sha256 | cat >/dev/null"
        -n 'xbstream'               "$pipe $ours -s xbstream | cat >/dev/null"
        -n 'tar, zstd:1'            "$pipe $ours --compress zstd:1 | cat >/dev/null"
        -n 'the original, xbstream' "$pipe $theirs --stream=xbstream 2>/dev/null | cat >/dev/null"
    )
    hyperfine --warmup "$3" --runs "$2" --style none --export-json "$dir/$1.json" --shell bash \
        -n 'tar'                    "$pipe $ours | cat >/dev/null" \
        -n 'cat of the data files'  "cat '$data'/*.sst | cat >/dev/null" \
        -n 'one tar of everything'  "tar -c -f - -C $dir/data . 2>/dev/null | cat >/dev/null" \
        -n 'the original, tar'      "$pipe $theirs --stream=tar 2>/dev/null | cat >/dev/null" \
        "${more[@]}" >/dev/null
}
report() { # NAME BYTES
    python3 - "$dir/$1.json" "$2" <<'PYTHON'
import json, statistics, sys
runs = json.load(open(sys.argv[1]))["results"]
results = {r["command"]: statistics.median(r["times"]) for r in runs}
cpu = {r["command"]: r["user"] + r["system"] for r in runs}
size = int(sys.argv[2])
best = {r["command"]: min(r["times"]) for r in runs}
cat, original = results["cat of the data files"], results.get("the original, tar")
for name, seconds in results.items():
    times = f"{original / seconds:7.2f} times the original" if original else ""
    print(f"{name:24} {seconds:7.3f} s (best {best[name]:.3f}) {size / seconds / 1e6:7.0f} MB/s {seconds / cat:6.2f} x cat "
          f"(best {best[name] / best['cat of the data files']:.2f}) {times}   processor {cpu[name]:.2f} s")
PYTHON
}
bytes=$(cat "$data"/*.sst | wc -c)
echo "== large data files: $(find "$data" -name '*.sst' | wc -l) with $((bytes / 1000000)) MB, $(find "$dir/data" -type f | wc -l) files in all"
measure large "$runs" 1; report large "$bytes"

echo "== the same from the disk: no data file is in the page cache"
cat >"$dir/forget" <<'PYTHON'
import os, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
PYTHON
hyperfine --prepare "python3 '$dir/forget' '$data'/*.sst" --runs "$runs" --style none --export-json "$dir/disk.json" --shell bash \
    -n 'cat of the data files'   "cat '$data'/*.sst | cat >/dev/null" \
    -n 'tar, direct I/O'         "$pipe $ours --direct-io on | cat >/dev/null" \
    -n 'tar, buffered'           "$pipe $ours --direct-io off | cat >/dev/null" \
    -n 'xbstream, direct I/O'    "$pipe $ours -s xbstream --direct-io on | cat >/dev/null" \
    -n 'xbstream, buffered'      "$pipe $ours -s xbstream --direct-io off | cat >/dev/null" >/dev/null
report disk "$bytes"

mkdir "$dir/data/many"
for ((i = 0; i < small; i++)); do head -c 2048 /dev/zero >"$dir/data/many/t$i.MYD"; done
echo "== the same with $small files of 2 KB more"
measure small 2 0; report small "$bytes"

echo "== peak memory"
for how in '' '--direct-io on' '-s xbstream' '--compress zstd:1'; do
    # shellcheck disable=SC2086
    python3 - "${how:-tar}" $ours $how <<'PYTHON'
import resource, subprocess, sys
with subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE) as backup:
    while backup.stdout.read(1 << 20):
        pass
print(f"{sys.argv[1]:24} {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:6.1f} MiB")
PYTHON
done
