#!/usr/bin/env bash
# Compares `dbrecover binlog list` and `binlog find` with `mysqlbinlog > /dev/null` on one real binlog in one run; all read
# it from memory. Prints seconds, rates and the ratio; then the same of four such files, on one processor and on all.
# Needs hyperfine and what tests/setup.sh installs.
#
# usage: tests/bench/binlog-scan.sh [MEBIBYTES]     (default 256)
#   DBRECOVER   the program to measure; else it is built
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
size=${1:-256}
tools=${DBRECOVER_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dbrecover-test-tools}
base=$(echo "$tools"/mysql/mysql-*/)
[ -x "$base/bin/mysqld" ] || { echo "no MySQL in $tools/mysql; run tests/setup.sh" >&2; exit 1; }
command -v hyperfine >/dev/null || { echo "hyperfine is missing" >&2; exit 1; }
dbrecover=${DBRECOVER:-}
[ -n "$dbrecover" ] || { cargo build --release --quiet --bin dbrecover; dbrecover=${CARGO_TARGET_DIR:-target}/release/dbrecover; }
dir=$(mktemp -d /dev/shm/binlog-scan.XXXXXX)
server=
trap '[ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" || true; }; rm -rf "$dir"' EXIT

options=(--no-defaults --user="$(id -un)" --basedir="$base" --datadir="$dir/data")
"$base/bin/mysqld" "${options[@]}" --initialize-insecure >"$dir/log" 2>&1
"$base/bin/mysqld" "${options[@]}" --socket="$dir/s" --skip-networking --mysqlx=OFF --gtid-mode=ON --enforce-gtid-consistency=ON \
    --log-bin="$dir/data/binlog" --sync-binlog=0 --innodb-flush-log-at-trx-commit=0 --max-binlog-size=1G >>"$dir/log" 2>&1 &
server=$!
client=("$base/bin/mysql" --no-defaults -uroot -S "$dir/s")
until "${client[@]}" -e 'SELECT 1' >/dev/null 2>&1; do
    kill -0 "$server" || { tail "$dir/log" >&2; exit 1; }
    sleep 0.1
done
"${client[@]}" -e "CREATE DATABASE b; CREATE TABLE b.small (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(200)); CREATE TABLE b.large (id INT AUTO_INCREMENT PRIMARY KEY, v TEXT)"
# Half of the bytes in transactions of one row, half in statements of a thousand.
small=$(awk 'BEGIN { for (i = 0; i < 2000; i++) print "INSERT INTO b.small (v) VALUES (REPEAT(UUID(), 3));" }')
until [ "$(stat -c %s "$dir/data/binlog.000001")" -ge $((size << 19)) ]; do "${client[@]}" <<<"$small"; done
large="SET cte_max_recursion_depth=100000; INSERT INTO b.large (v) WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT REPEAT(UUID(), 20) FROM n;"
until [ "$(stat -c %s "$dir/data/binlog.000001")" -ge $((size << 20)) ]; do "${client[@]}" <<<"$large"; done
kill "$server"; wait "$server" || true; server=
mkdir "$dir/logs" "$dir/four"; mv "$dir/data/binlog.000001" "$dir/logs/"; rm -rf "$dir/data"
for i in 1 2 3 4; do ln "$dir/logs/binlog.000001" "$dir/four/binlog.00000$i"; done

bytes=$(stat -c %s "$dir/logs/binlog.000001")
hyperfine --warmup 1 --runs 5 --export-json "$dir/result.json" --style none \
    -n 'cat'                       "cat $dir/logs/binlog.000001" \
    -n 'dbrecover binlog list'     "$dbrecover binlog list $dir/logs" \
    -n 'find --where-text'         "$dbrecover binlog find --where-text no-such-text $dir/logs" \
    -n 'list, 4 files, 1 CPU'      "taskset -c 0 $dbrecover binlog list $dir/four" \
    -n 'list, 4 files'             "$dbrecover binlog list $dir/four" \
    -n 'mysqlbinlog'               "$base/bin/mysqlbinlog --no-defaults $dir/logs/binlog.000001" \
    -n 'mysqlbinlog with checksum' "$base/bin/mysqlbinlog --no-defaults --verify-binlog-checksum $dir/logs/binlog.000001" >/dev/null
python3 - "$dir/result.json" "$bytes" <<'PYTHON'
import json, sys
best = {r["command"]: min(r["times"]) for r in json.load(open(sys.argv[1]))["results"]}
size = int(sys.argv[2])
for name, seconds in best.items():
    read = size * (4 if "4 files" in name else 1)
    print(f"{name:26} {seconds:7.3f} s {read / seconds / 1e9:6.2f} GB/s")
print(f"{size >> 20} MiB; dbrecover is {best['mysqlbinlog'] / best['dbrecover binlog list']:.1f} times mysqlbinlog > /dev/null")
PYTHON
