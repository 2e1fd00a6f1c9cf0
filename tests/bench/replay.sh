#!/usr/bin/env bash
# Measures the ways to replay binlogs on one machine in one run: the stock pipe into a server with default durability
# (as the old program ran it: original), the same with the server options that dbrecover chooses (stock), and the methods
# pipe, sql, relay and auto of `dbrecover replay` with these options. Three loads: a = many small transactions, b = few
# large ones, c = four schemas written in parallel. Prints seconds, transactions per second, and how many times faster than
# the two stock pipes; every result is compared with the source.
#
# usage: tests/bench/replay.sh [TRANSACTIONS]     (default 10000; b has a thousandth of them, with 5000 rows each)
# env:   FLAVORS="mysql mariadb"  LOADS="a b c"  METHODS="original stock pipe sql relay auto"  PROFILE=release  DBRECOVER=program (not built then)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
count=${1:-10000}
flavors=${FLAVORS:-mysql mariadb} loads=${LOADS:-a b c} methods=${METHODS:-original stock pipe sql relay auto} profile=${PROFILE:-release}
tools=${DBRECOVER_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dbrecover-test-tools}
dbrecover=${DBRECOVER:-}
if [ -n "$dbrecover" ]; then :; elif [ "$profile" = release ]; then cargo build --release --quiet --bin dbrecover; else cargo build --quiet --bin dbrecover; fi
dbrecover=${dbrecover:-${CARGO_TARGET_DIR:-target}/$profile/dbrecover}
dir=$(mktemp -d /tmp/replay-bench.XXXXXX)
server=
stop() { [ -z "$server" ] || { kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; server=; }; }
trap 'stop; rm -rf "$dir"' EXIT
user=(--user="$(id -un)")

flavor() { # sets base, mysqld, client, reader, extra, version
    case $1 in
    mysql) base=$(echo "$tools"/mysql/mysql-*/); mysqld=$base/bin/mysqld; extra=(--mysqlx=OFF --gtid-mode=ON --enforce-gtid-consistency=ON)
        client=$base/bin/mysql reader=$base/bin/mysqlbinlog ;;
    mariadb) base=/usr mysqld=/usr/sbin/mariadbd extra=() client=/usr/bin/mariadb reader=/usr/bin/mariadb-binlog ;;
    esac
    version=$("$mysqld" --no-defaults --version)
}
start() { # DATADIR OPTION...
    local data=$1; shift
    "$mysqld" --no-defaults "${user[@]}" --datadir="$data" --socket="$dir/s" --skip-networking --log-error="$dir/err" "$@" >>"$dir/out" 2>&1 &
    server=$!
    until "$client" --no-defaults -uroot -S "$dir/s" -e 'SELECT 1' >/dev/null 2>&1; do
        kill -0 "$server" 2>/dev/null || { tail "$dir/err" >&2; exit 1; }
        sleep 0.05
    done
}
sql() { "$client" --no-defaults -uroot -S "$dir/s" -N "$@"; }
sums() { for s in 1 2 3 4; do sql -e "SELECT COUNT(*), SUM(CRC32(CONCAT_WS('|',id,n,v))) FROM b$s.t" 2>/dev/null || true; done; }

small() { # SCHEMA COUNT
    awk -v s="$1" -v n="$2" 'BEGIN { for (i = 1; i <= n; i++) {
        if (i % 4 < 2) printf "INSERT INTO %s.t (v) VALUES (REPEAT(UUID(), 3));\n", s
        else if (i % 4 == 2) printf "UPDATE %s.t SET n = n + 1 WHERE id = %d;\n", s, int(i / 3)
        else printf "BEGIN; INSERT INTO %s.t (v) VALUES (UUID()); UPDATE %s.t SET n = %d WHERE id = %d; COMMIT;\n", s, s, i, int(i / 5) } }'
}
write_load() { # LOAD
    local s pids=()
    for s in 1 2 3 4; do sql -e "CREATE DATABASE b$s; CREATE TABLE b$s.t (id INT AUTO_INCREMENT PRIMARY KEY, n INT DEFAULT 0, v VARCHAR(200))"; done
    case $1 in
    a) small b1 "$count" | sql ;;
    b) sql -e "INSERT INTO b1.t (v) VALUES (UUID())"
        for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do sql -e "INSERT INTO b1.t (v) SELECT REPEAT(UUID(), 3) FROM b1.t"; done
        for ((s = 0; s < (count + 999) / 1000; s++)); do
            sql -e "INSERT INTO b2.t (v) SELECT REPEAT(UUID(), 3) FROM b1.t; UPDATE b2.t SET n = n + 1 ORDER BY id DESC LIMIT 1000"
        done ;;
    c) for s in 1 2 3 4; do small "b$s" $((count / 4)) | sql & pids+=($!); done
        for s in "${pids[@]}"; do wait "$s"; done ;;
    esac
}

printf '%-8s %-4s %-9s %8s %9s %11s %9s\n' server load method seconds trx/s 'x original' 'x stock'
for f in $flavors; do
    flavor "$f"
    rm -rf "$dir/template"
    if [ "$f" = mysql ]; then "$mysqld" --no-defaults "${user[@]}" --datadir="$dir/template" --initialize-insecure >>"$dir/out" 2>&1
    else mariadb-install-db --no-defaults "${user[@]}" --auth-root-authentication-method=normal --skip-test-db --datadir="$dir/template" >>"$dir/out" 2>&1; fi
    for load in $loads; do
        rm -rf "$dir/source" "$dir/logs"; cp -r "$dir/template" "$dir/source"; rm -f "$dir/source/auto.cnf"
        start "$dir/source" "${extra[@]}" --log-bin=binlog --binlog-format=ROW --server-id=7 --sync-binlog=0 --innodb-flush-log-at-trx-commit=0
        write_load "$load"
        truth=$(sums)
        stop
        mkdir "$dir/logs"; cp "$dir"/source/binlog.0* "$dir/logs/"
        original='' stock=''
        for method in $methods; do
            rm -rf "$dir/data"; cp -r "$dir/template" "$dir/data"; rm -f "$dir/data/auto.cnf"; sync
            if [ "$method" = original ]; then
                start "$dir/data" "${extra[@]}" --log-bin=master-bin --binlog-format=ROW --server-id=9
                begin=$(date +%s%N)
                "$reader" --no-defaults "$dir"/logs/binlog.0* | sql
                ms=$((($(date +%s%N) - begin) / 1000000))
                transactions=
            else
                asked=$method; [ "$method" = stock ] && asked=pipe
                request=$(python3 -c 'import json,sys; a=sys.argv; print(json.dumps({"schema_version":1,"server_version":a[1],"binlogs":[a[2]+"/logs"],
                    "start":{"position":"binlog.000001:4","executed":""},"target":"end","method":a[3],"datadir":a[2]+"/data","base_dir":a[4],
                    "server":{"socket":a[2]+"/s","user":"root"}}))' "$version" "$dir" "$asked" "$base")
                mapfile -t options < <("$dbrecover" replay --request - --prepare <<<"$request" | python3 -c 'import json,sys; print("\n".join(json.load(sys.stdin)["server_options"]))')
                [ "$f" = mysql ] && options+=(--mysqlx=OFF)
                start "$dir/data" "${options[@]}"
                if [ "$method" = stock ]; then
                    begin=$(date +%s%N)
                    "$reader" --no-defaults "$dir"/logs/binlog.0* | sql
                    ms=$((($(date +%s%N) - begin) / 1000000))
                    transactions=
                else
                    answer=$("$dbrecover" replay --request - --run <<<"$request")
                    read -r ms transactions <<<"$(python3 -c 'import json,sys; o=json.load(sys.stdin); print(o["elapsed_ms"], o["transactions"])' <<<"$answer")"
                fi
            fi
            [ "$(sums)" = "$truth" ] || { echo "$f $load $method: the rows differ from the source's" >&2; exit 1; }
            stop
            [ "$method" = original ] && original=$ms
            [ "$method" = stock ] && stock=$ms
            awk -v f="$f" -v l="$load" -v m="$method" -v ms="$ms" -v n="${transactions:-0}" -v o="$original" -v p="$stock" 'BEGIN {
                printf "%-8s %-4s %-9s %8.2f %9s %11s %9s\n", f, l, m, ms / 1000, n ? sprintf("%.0f", n * 1000 / ms) : "-",
                    o ? sprintf("%.1f", o / ms) : "-", p ? sprintf("%.1f", p / ms) : "-" }'
        done
    done
done
