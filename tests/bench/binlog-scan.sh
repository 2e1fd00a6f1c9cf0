#!/usr/bin/env bash
# Compares `dbrecover binlog list` with `mysqlbinlog > /dev/null` on one real binlog in one run; both read it from
# memory. Prints seconds, rates and the ratio. Needs hyperfine and what tests/setup.sh installs.
#
# usage: tests/bench/binlog-scan.sh [MEBIBYTES]     (default 256)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
size=${1:-256}
tools=${DBRECOVER_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dbrecover-test-tools}
base=$(echo "$tools"/mysql/mysql-*/)
[ -x "$base/bin/mysqld" ] || { echo "no MySQL in $tools/mysql; run tests/setup.sh" >&2; exit 1; }
command -v hyperfine >/dev/null || { echo "hyperfine is missing" >&2; exit 1; }
cargo build --release --quiet --bin dbrecover
dbrecover=${CARGO_TARGET_DIR:-target}/release/dbrecover
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
mkdir "$dir/logs"; mv "$dir/data/binlog.000001" "$dir/logs/"; rm -rf "$dir/data"

bytes=$(stat -c %s "$dir/logs/binlog.000001")
hyperfine --warmup 1 --runs 5 --export-json "$dir/result.json" --style none \
    -n 'dbrecover binlog list'     "$dbrecover binlog list $dir/logs" \
    -n 'mysqlbinlog'               "$base/bin/mysqlbinlog --no-defaults $dir/logs/binlog.000001" \
    -n 'mysqlbinlog with checksum' "$base/bin/mysqlbinlog --no-defaults --verify-binlog-checksum $dir/logs/binlog.000001" >/dev/null
python3 - "$dir/result.json" "$bytes" <<'PYTHON'
import json, sys
best = {r["command"]: min(r["times"]) for r in json.load(open(sys.argv[1]))["results"]}
size = int(sys.argv[2])
for name, seconds in best.items():
    print(f"{name:26} {seconds:7.3f} s {size / seconds / 1e9:6.2f} GB/s")
print(f"{size >> 20} MiB; dbrecover is {best['mysqlbinlog'] / best['dbrecover binlog list']:.1f} times mysqlbinlog > /dev/null")
PYTHON
