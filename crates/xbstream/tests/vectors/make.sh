#!/usr/bin/env bash
# Makes the vectors of this folder with the real tools, and manifest.json with what must come out of each.
# needs: mariadb-server, mariadb-backup, lz4, zstd, python3
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; }; rm -rf "$work"' EXIT
rm -f ./*.xbs ./*.qp ./*.lz4 ./*.zst manifest.json

# Contents that compress somewhat, and that anyone can make again.
python3 - "$work" <<'PY'
import sys
work = sys.argv[1]
def text(n):
    x, out = 1, bytearray()
    while len(out) < n:
        x = x * 1103515245 + 12345 & 0x7fffffff
        out += b"row %d of page %d; " % (x >> 20, x >> 9 & 31)
    return bytes(out[:n])
for name, n in (("none", 0), ("one", 1), ("some", 5000), ("pages", 40000)):
    open(f"{work}/{name}", "wb").write(text(n))
PY

(cd "$work" && mkdir -p d && cp pages d/t.ibd && cp one none some d && mbstream -c one d/t.ibd d/none d/some) >mbstream.xbs

for name in none one pages; do
    lz4 -q -c -B4 --content-size "$work/$name" >"$name.independent.lz4"
    lz4 -q -c -B4 -BD -BX "$work/$name" >"$name.linked.lz4"
    zstd -q -c -1 --check "$work/$name" >"$name.zst"
    zstd -q -c -19 --check --no-content-size <"$work/$name" >"$name.unsized.zst"
done
cat one.zst pages.zst none.zst >frames.zst
cat one.linked.lz4 pages.independent.lz4 none.independent.lz4 >frames.lz4

# Members as mariabackup compresses them.
mariadb-install-db --no-defaults --datadir="$work/data" --auth-root-authentication-method=normal --skip-test-db >/dev/null
mariadbd --no-defaults --datadir="$work/data" --socket="$work/s" --pid-file="$work/pid" --skip-networking --user="$(id -un)" 2>"$work/log" &
server=$!
until mariadb-admin --no-defaults --socket="$work/s" -uroot ping >/dev/null 2>&1; do kill -0 "$server"; read -rt 0.1 <> <(:) || :; done
mariadb --no-defaults --socket="$work/s" -uroot -e "
    create database d; use d;
    create table empty_t (a int) engine=myisam;
    create table rows_t (a int, b varchar(200)) engine=myisam;
    insert into rows_t select seq, repeat(char(97 + seq % 26), seq % 150) from seq_1_to_150;
    create table noise (b varbinary(64)) engine=myisam;
    insert into noise select unhex(sha2(seq, 512)) from seq_1_to_60;"
mkdir "$work/backup" "$work/plain"
backup() { mariabackup --no-defaults --backup --user=root --socket="$work/s" --datadir="$work/data" --target-dir="$1" "${@:2}" 2>"$work/log2"; }
backup "$work/backup" --compress --compress-chunk-size=4096
backup "$work/plain"
for name in empty_t.MYD rows_t.MYD rows_t.frm noise.MYD; do
    cp "$work/backup/d/$name.qp" .
    cp "$work/plain/d/$name" "$work/$name"
done
(cd "$work/backup" && mbstream -c xtrabackup_checkpoints d/rows_t.MYD.qp d/rows_t.frm.qp d/empty_t.MYD.qp) >mariabackup-compressed.xbs
cp "$work/plain/xtrabackup_checkpoints" "$work/"

python3 - "$work" "$(mariabackup --version 2>&1 | grep -oE '[0-9]+[.][0-9]+[.][0-9]+-MariaDB' | head -n 1)" <<'PY'
import hashlib, json, os, sys
work, mariabackup = sys.argv[1:]
def plain(path):
    data = open(os.path.join(work, path), "rb").read()
    return {"len": len(data), "sha256": hashlib.sha256(data).hexdigest()}
def joined(*names):
    data = b"".join(open(os.path.join(work, n), "rb").read() for n in names)
    return {"len": len(data), "sha256": hashlib.sha256(data).hexdigest()}
members = {"frames.zst": joined("one", "pages", "none"), "frames.lz4": joined("one", "pages", "none")}
for name in sorted(os.listdir(".")):
    if name.endswith(".qp"):
        members[name] = plain(name[:-3])
    elif name.endswith((".lz4", ".zst")) and not name.startswith("frames"):
        members[name] = plain(name.split(".")[0])
archives = {
    "mbstream.xbs": {n: plain(n) for n in ("one", "d/t.ibd", "d/none", "d/some")},
    "mariabackup-compressed.xbs": {
        "xtrabackup_checkpoints": {**plain("backup/xtrabackup_checkpoints")},
        **{f"d/{n}": plain(n) for n in ("rows_t.MYD", "rows_t.frm", "empty_t.MYD")},
    },
}
json.dump({"made_with": mariabackup, "archives": archives, "members": members}, open("manifest.json", "w"), indent=1, sort_keys=True)
PY
ls -l
