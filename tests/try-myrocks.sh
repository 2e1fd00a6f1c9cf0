#!/usr/bin/env bash
# A MyRocks server under load: a full and an incremental hot backup, both restored into a server that starts.
# Called by `./try --myrocks`. Everything lies below one temporary directory, uses sockets only, and is gone at the end.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '\n== %s\n' "$*"; }
die() { printf 'try: error: %s\n' "$*" >&2; exit 1; }

say "installing what is missing from Debian: MariaDB with MyRocks"
tests/setup.sh 60-myrocks

say "building"
cargo build --quiet -p dbrecover --bin myrocks-hotbackup
hot=${CARGO_TARGET_DIR:-$PWD/target}/debug/myrocks-hotbackup
tests=crates/cli/tests/myrocks_hotbackup

temp=$(mktemp -d "${TMPDIR:-/tmp}/myrocks-try.XXXXXX")
servers=() writer=
finish() {
    [ -z "$writer" ] || kill "$writer" 2>/dev/null || true
    for pid in "${servers[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null || true; done
    rm -rf "$temp"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() { # DATADIR SOCKET
    mariadbd --no-defaults --user="$(id -un)" --datadir="$1" --socket="$2" --pid-file="$2.pid" --skip-networking \
        --plugin-load-add=ha_rocksdb.so --log-bin=binlog --server-id=7 >"$2.log" 2>&1 &
    servers+=("$!")
    for _ in $(seq 300); do
        if mariadb-admin --no-defaults -uroot -S "$2" ping >/dev/null 2>&1; then return; fi
        kill -0 "${servers[-1]}" 2>/dev/null || { cat "$2.log" >&2; die "the server ended"; }
        sleep 0.1
    done
    die "the server does not start"
}
sql() { mariadb --no-defaults -uroot -N -B -S "$1" -e "$2"; }

say "a server with a bank: every transfer moves money between two of a hundred accounts, and leaves a line in a log"
mariadb-install-db --no-defaults --user="$(id -un)" --auth-root-authentication-method=normal --skip-test-db \
    --datadir="$temp/data" >"$temp/install.log" 2>&1 || { cat "$temp/install.log" >&2; die "mariadb-install-db failed"; }
start "$temp/data" "$temp/s"
sql "$temp/s" "$(cat "$tests/bank.sql")"
mariadb --no-defaults -uroot -S "$temp/s" bank -e 'CALL trade()' >/dev/null 2>&1 &
writer=$!
sleep 2

backup() { "$hot" --socket "$temp/s" --checkpoint-dir "$temp/snapshots" --consistent "$@"; }
say "what a backup would take"
backup --dry-run
say "a full backup, while the transfers go on"
backup --stream dir --to "$temp/full"
sleep 2
say "an incremental backup: what is new since then, as one compressed archive"
backup --stream tar --compress zstd --incremental-base "$temp/full" --to "$temp/incremental.tar.zst"
kill "$writer" 2>/dev/null || true; writer=
(cd "$temp" && du -sh full incremental.tar.zst)

say "are they what they say they are?"
"$hot" verify --blocks "$temp/full"
"$hot" verify "$temp/incremental.tar.zst"

say "restoring both, and starting a server on the result"
"$hot" restore --from "$temp/full" --from "$temp/incremental.tar.zst" --datadir "$temp/restored"
start "$temp/restored" "$temp/r"
rows=$(sql "$temp/r" "SELECT COUNT(*) FROM bank.log")
money=$(sql "$temp/r" "SELECT SUM(amount) FROM bank.account")
echo "the restored bank has $rows transfers in its log and $money in its accounts"
[ "$money" = 100000 ] && [ "$rows" -gt 0 ] || die "that is not what it should be: 100000"
wrong=$(sql "$temp/r" "$(cat "$tests/bank-disagrees.sql")")
[ "$wrong" = 0 ] || die "$wrong accounts do not agree with the log"
say "every account agrees with the log of transfers: done"
