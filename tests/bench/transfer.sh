#!/usr/bin/env bash
# Compares the transfers between two hosts with plain `ssh cat` and plain `socat`, on loopback, in one run: MB/s of the
# transfer itself, without logins, best and median of some rounds in turn. What is sent is a file in the page cache. A relay
# encrypts and decrypts everything twice, so it is compared with the same done by hand as well: `ssh cat | ssh cat`.
# Needs what tests/setup.sh installs.
#
# usage: tests/bench/transfer.sh [MEBIBYTES [ROUNDS]]     (default 512 3)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bytes=$((${1:-512} << 20)) rounds=${2:-3}
for tool in /usr/sbin/sshd ssh socat python3; do command -v "$tool" >/dev/null || { echo "$tool is missing; run tests/setup.sh" >&2; exit 1; }; done
cargo build --release --quiet -p dbrecover-remote-exec --examples
examples=$(realpath "${CARGO_TARGET_DIR:-target}/release/examples")
# `seal` is what `dbrecover send` and `dbrecover receive` do, without the rest of dbrecover.
transfer=$examples/transfer seal=$examples/seal
dir=$(mktemp -d /tmp/transfer-bench.XXXXXX)
sshd=
trap '[ -z "$sshd" ] || kill "$sshd"; rm -rf "$dir"' EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

file=$dir/file
head -c "$bytes" /dev/urandom >"$file"
for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$dir/$key"; done
port=$(free_port)
printf '%s\n' "Port $port" "ListenAddress 127.0.0.1" "HostKey $dir/host" "AuthorizedKeysFile $dir/user.pub" "StrictModes no" \
    "UsePAM no" "PidFile none" "PermitRootLogin yes" "SetEnv HOME=$dir" >"$dir/config"
mkdir -p /run/sshd
/usr/sbin/sshd -D -e -f "$dir/config" 2>"$dir/log" & sshd=$!
echo "[127.0.0.1]:$port $(cat "$dir/host.pub")" >"$dir/known"
# The ciphers that the transfers ask for too.
login=(ssh -F /dev/null -p "$port" -i "$dir/user" -o IdentitiesOnly=yes -o UserKnownHostsFile="$dir/known" -o BatchMode=yes
    -o Ciphers='^aes128-gcm@openssh.com,aes256-gcm@openssh.com')
# As a user types it: the first cipher of the client's own list.
plain=(ssh -F /dev/null -p "$port" -i "$dir/user" -o IdentitiesOnly=yes -o UserKnownHostsFile="$dir/known" -o BatchMode=yes -S "$dir/plain" 127.0.0.1)
store=("${login[@]}" -S "$dir/store" 127.0.0.1) job=("${login[@]}" -S "$dir/job" 127.0.0.1)
for _ in $(seq 100); do "${store[@]}" -M -o ControlPersist=600 true 2>/dev/null && break; sleep 0.1; done
"${job[@]}" -M -o ControlPersist=600 true
"${plain[@]}" -M -o ControlPersist=600 true

# timed COMMAND...: MB/s
timed() {
    local begin end
    begin=$(date +%s%N); "$@" >/dev/null; end=$(date +%s%N)
    python3 -c "print('%.1f' % ($bytes * 1e3 / ($end - $begin)))"
}
plain_socat() {
    local p; p=$(free_port)
    socat -b 262144 -u "tcp4-listen:$p,bind=127.0.0.1,reuseaddr" STDOUT >/dev/null & local listener=$!
    socat -b 262144 -u "OPEN:$file,rdonly" "tcp4:127.0.0.1:$p,retry=50,interval=0.02"
    wait "$listener"
}
hand_relay() { "${store[@]}" "cat $file" | "${job[@]}" 'cat >/dev/null'; }
ours() { "$transfer" "$1" "$2" "$file" "$port" "$dir/user" "$dir/known" "$dir/work"; }
# cpu SHELL-TEXT: processor seconds per GB of everything in it
cpu() {
    python3 - "$1" "$bytes" <<'PYTHON'
import resource, subprocess, sys
subprocess.run(["bash", "-c", sys.argv[1]], check=True, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print("%.2f" % ((used.ru_utime + used.ru_stime) * 1e9 / int(sys.argv[2])))
PYTHON
}

echo "load before: $(cut -d' ' -f1-3 /proc/loadavg), cores: $(nproc)"
for _ in $(seq "$rounds"); do
    echo "plain_ssh_cat $(timed "${plain[@]}" "cat $file")"
    echo "ssh_cat $(timed "${store[@]}" "cat $file")"
    echo "hand_relay $(timed hand_relay)"
    echo "plain_socat $(timed plain_socat)"
    for method in relay socat scp; do
        echo "$method $(ours "$method" "$seal")"
        echo "${method}_stock $(ours "$method" stock)"
    done
done >"$dir/rates"
"${store[@]}" -O exit 2>/dev/null || true
"${job[@]}" -O exit 2>/dev/null || true
"${plain[@]}" -O exit 2>/dev/null || true
echo "load after:  $(cut -d' ' -f1-3 /proc/loadavg)"
python3 - "$dir/rates" <<'PYTHON'
import collections, statistics, sys
rates = collections.defaultdict(list)
for line in open(sys.argv[1]):
    name, rate = line.split()
    rates[name].append(float(rate))
best = {name: max(all) for name, all in rates.items()}
middle = {name: statistics.median(all) for name, all in rates.items()}
for name in rates:
    print("%-13s best %7.1f MB/s, median %7.1f MB/s" % (name, best[name], middle[name]))
for name, against in (("hand_relay", "ssh_cat"), ("relay", "plain_ssh_cat"), ("relay", "ssh_cat"), ("relay", "hand_relay"), ("relay_stock", "ssh_cat"),
                      ("scp", "ssh_cat"), ("scp_stock", "ssh_cat"), ("socat", "plain_socat"), ("socat_stock", "plain_socat")):
    print("%-11s of %-13s best %.2f, median %.2f" % (name, against, best[name] / best[against], middle[name] / middle[against]))
PYTHON
echo "processor seconds per GB:"
echo "  cat | cat                $(cpu "cat $file | cat >/dev/null")"
echo "  send | receive           $(cpu "$seal send $file | $seal receive >/dev/null")"
echo "  cat | tee + cksum | cat  $(cpu "cat $file | { tee /dev/fd/3 | cksum >&2; } 3>&1 | cat >/dev/null")"
