#!/usr/bin/env bash
# recovery.sh [BALLAST-MIB] [RUNS]
#
# The whole recovery: `dbrecover` against the original's steps with the stock tools (stock-recovery.sh), on the
# same store, to its last consistent point and to a stop time, alternating. Prints medians and their ratio.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
ballast=${1:-0} runs=${2:-5}
cargo build --quiet --release -p dbrecover
cargo build --quiet -p lab
target=${CARGO_TARGET_DIR:-$PWD/target}
lab=$target/debug/lab dbrecover=$target/release/dbrecover
temp=$(mktemp -d "${TMPDIR:-/tmp}/dbrecover-bench.XXXXXX"); chmod 755 "$temp"
trap 'rm -rf "$temp"' EXIT

store=$("$lab" get-store --ballast "$ballast") truth=$(dirname "$store")/truth.json
backup=$("$lab" pick "$truth" last)
moment=$("$lab" pick "$truth" busy)
before=$(basename "$(printf '%s\n' "$store"/UTC* | sort | tail -n 2 | head -n 1)")

configure() { # TARGET-LINE
    cat >"$temp/recovery.conf" <<CONF
[recover-to]
$1
[backup-store]
dir = $store
[recovery-job-server]
work-dir = $temp/ours
[misc]
debug = 0
connect-method = local
xtrabackup-bin-dir = mariabackup
xbstream-bin-dir = mbstream
ds-info-dir = $temp
$([ "$(id -u)" != 0 ] || echo 'mysqld-user = mysql')
CONF
}
now() { date +%s.%N; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

compare() { # NAME TARGET-LINE WHEN STOCK-ARGUMENTS...
    local name=$1 when=$3 work; work=$temp/ours/$(tr ' :' '__' <<<"$3")
    [[ $2 != stop-datetime* ]] || work=$temp/ours/$(tr ' :-' '___' <<<"$3")
    configure "$2"; shift 3
    : >"$temp/t.ours"; : >"$temp/t.stock"
    for ((i = 0; i < runs; i++)); do
        rm -rf "$temp/ours" "$temp/stock"; sync
        local t; t=$(now)
        "$dbrecover" --config-file "$temp/recovery.conf" >/dev/null 2>"$temp/log" || { cat "$temp/log" >&2; exit 1; }
        awk -v a="$t" -v b="$(now)" 'BEGIN { print b - a }' >>"$temp/t.ours"
        sync; t=$(now)
        tests/bench/stock-recovery.sh "$store" "$temp/stock" "$@" >"$temp/log" 2>&1 || { cat "$temp/log" >&2; exit 1; }
        awk -v a="$t" -v b="$(now)" 'BEGIN { print b - a }' >>"$temp/t.stock"
    done
    # Speed of a wrong result is worth nothing.
    "$lab" verify "$truth" "$work" "$when" >/dev/null
    "$lab" verify "$truth" "$temp/stock" "$when" >/dev/null
    awk -v name="$name" -v a="$(median <"$temp/t.ours")" -v b="$(median <"$temp/t.stock")" \
        'BEGIN { printf "%-18s dbrecover %6.2f s   stock tools %6.2f s   ratio %.2f\n", name, a, b, a / b }'
}

printf 'store: %s, %s runs each\n' "$(du -sh "$store" | cut -f1)" "$runs"
compare "consistent point" "dir = $backup" "$backup" "$backup"
compare "stop time" "stop-datetime = $moment" "$moment" "$before" "$moment" "$backup"
