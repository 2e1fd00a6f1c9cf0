#!/usr/bin/env bash
# stock-recovery.sh STORE WORK BACKUP [STOP NEXT]
#
# The original program's steps with the stock tools, one after the other, for a store of MariaDB masters or
# replicas: tar and socat to the work directory, untar, extract, decompress, prepare, start, replay, shut down.
# WORK must be empty or absent. With STOP (a local time) the binlogs of the backup NEXT are joined in.
set -euo pipefail
store=$1 work=$2 backup=$3 stop=${4:-} next=${5:-}
say() { printf 'stock: %s\n' "$*" >&2; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
as_mysql() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=mysql --regid=mysql --clear-groups -- "$@"; else "$@"; fi; }
started=()
trap 'for p in "${started[@]}"; do kill -9 "$p" 2>/dev/null || :; done' EXIT

chain=()
for name in $(cd "$store" && printf '%s\n' UTC* | sort -r); do
    [[ $name > $backup ]] || chain=("$name" "${chain[@]}")
    if [[ ! $name > $backup && $name == *-full ]]; then break; fi
done
mkdir -p "$work"/{datadir,tmp,datanode_base}
move=("${chain[@]}"); [ -z "$next" ] || move+=("$next")
for name in "${move[@]}"; do
    tar -cf "$work/$name.tar" -C "$store" "$name"
    p=$(port)
    socat -u "tcp-listen:$p,bind=127.0.0.1,reuseaddr" "file:$work/$name-new.tar,trunc,creat" & receiver=$!
    socat -u "file:$work/$name.tar" "tcp4:127.0.0.1:$p,retry=100,interval=0.05"
    wait "$receiver"; rm "$work/$name.tar"
    tar -xf "$work/$name-new.tar" -C "$work"; rm "$work/$name-new.tar"
done
tar -xzf "$work/${chain[0]}"/datanode_base/*.tar.gz -C "$work/datanode_base"
base=$(echo "$work"/datanode_base/*)

masters=; grep -Eq '^backup-master *= *1' "$work/$backup/backup.conf" && masters=1
for folder in "$work/${chain[0]}"/*-*-*-*/; do
    folder=$(basename "$folder"); binlogs=$folder
    if [ -n "$masters" ]; then [ ! -e "$work/$backup/$folder/master_dir" ] || continue
    else [ -e "$work/$backup/$folder/master_dir" ] || continue; binlogs=$(cat "$work/$backup/$folder/master_dir"); fi
    data=$work/datadir/$folder
    if [ -n "$next" ]; then cp -a "$work/$next/$binlogs"/*.[0-9][0-9][0-9][0-9][0-9][0-9] "$work/$backup/$binlogs/"; fi
    mkdir -p "$data"
    for name in "${chain[@]}"; do
        into=$data; [[ $name == *-full ]] || { into=$work/$name/$folder/inc; mkdir "$into"; }
        mbstream -x -C "$into" <"$work/$name/$folder/backup.xbsteam"
        if [ -n "$(find "$into" -name '*.qp' -print -quit)" ]; then
            mariabackup --decompress --remove-original --target-dir="$into" 2>>"$work/tmp/log"
        fi
        inc=(); [ "$into" = "$data" ] || inc=("--incremental-dir=$into")
        mariabackup --prepare --target-dir="$data" "${inc[@]}" 2>>"$work/tmp/log"
    done
    [ "$(id -u)" != 0 ] || chown -R mysql:mysql "$data"
    p=$(port); socket=/tmp/stock-$$.sock
    as_mysql "$base/bin/mysqld" --no-defaults --lc-messages-dir="$base/share/english" --character-sets-dir="$base/share/charsets" --datadir="$data" --socket="$socket" \
        --pid-file="$data/db.pid" --log-error="$data/db.err" --port="$p" --server-id=27000 --bind-address=127.0.0.1 \
        --binlog-format=row --log-bin=master-bin --skip-slave-start & server=$!
    started+=("$server")
    IFS=$'\t' read -r _ _ file position _ _ from start < <(grep "	belong-to-datasource=${folder%%-*}	" "$work/$backup/cluster_consistence_info" | grep -F "$(cut -d- -f2 <<<"$folder")	")
    from=${from#*=} start=${start#*=}
    client=("$base/bin/mysql" --no-defaults --user=root "--socket=$socket")
    until "${client[@]}" -e 'select 1' >/dev/null 2>&1; do sleep 1; done
    gtids=$(cat "$work/$backup/$folder/executed_gtids")
    "${client[@]}" -e "STOP SLAVE; RESET SLAVE ALL; RESET MASTER; SET GLOBAL gtid_slave_pos='$gtids'"
    files=(); for f in "$work/$backup/$binlogs"/*.[0-9][0-9][0-9][0-9][0-9][0-9]; do
        n=$(basename "$f")
        if [[ ! $n < $from && ( -n $stop || ! $n > $file ) ]]; then files+=("$f"); fi
    done
    limit=("--stop-position=$position"); [ -z "$stop" ] || limit=("--stop-datetime=$stop")
    [ "$start" != 4 ] || start=$gtids
    if [ "$from $start" != "$file $position" ]; then
        set -o pipefail
        "$base/bin/mysqlbinlog" --no-defaults --start-position="$start" "${limit[@]}" "${files[@]}" | "${client[@]}" --binary-mode
    fi
    "${client[@]}" -e 'shutdown'
    wait "$server" || :
    say "$folder done"
done
say "recovery succeed"
