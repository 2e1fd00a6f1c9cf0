#!/usr/bin/env bash
# Compares the transfers between two hosts with plain `ssh cat` and plain `socat`, on loopback, in one run: MB/s of the
# transfer itself, without logins, best and median of some rounds in turn. Needs what tests/setup.sh installs.
#
# usage: tests/bench/transfer.sh [MEBIBYTES [ROUNDS]]     (default 1024 5)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bytes=$((${1:-1024} << 20)) rounds=${2:-5}
for tool in /usr/sbin/sshd ssh socat python3; do command -v "$tool" >/dev/null || { echo "$tool is missing; run tests/setup.sh" >&2; exit 1; }; done
cargo build --release --quiet -p dbrecover-remote-exec --example transfer
transfer=$(realpath "${CARGO_TARGET_DIR:-target}/release/examples/transfer")
dir=$(mktemp -d /tmp/transfer-bench.XXXXXX)
sshd=
trap '[ -z "$sshd" ] || kill "$sshd"; rm -rf "$dir"' EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

for key in host user; do ssh-keygen -q -t ed25519 -N '' -f "$dir/$key"; done
port=$(free_port)
printf '%s\n' "Port $port" "ListenAddress 127.0.0.1" "HostKey $dir/host" "AuthorizedKeysFile $dir/user.pub" "StrictModes no" \
    "UsePAM no" "PidFile none" "PermitRootLogin yes" >"$dir/config"
mkdir -p /run/sshd
/usr/sbin/sshd -D -e -f "$dir/config" 2>"$dir/log" & sshd=$!
echo "[127.0.0.1]:$port $(cat "$dir/host.pub")" >"$dir/known"
# The ciphers that the transfers ask for too.
login=(ssh -F /dev/null -p "$port" -i "$dir/user" -o IdentitiesOnly=yes -o UserKnownHostsFile="$dir/known" -o BatchMode=yes
    -o Ciphers='^aes128-gcm@openssh.com,aes256-gcm@openssh.com' -o ControlPath="$dir/master" 127.0.0.1)
for _ in $(seq 100); do "${login[@]}" -M -o ControlPersist=600 true 2>/dev/null && break; sleep 0.1; done

# timed COMMAND...: MB/s
timed() {
    local begin end
    begin=$(date +%s%N); "$@" >/dev/null; end=$(date +%s%N)
    python3 -c "print('%.1f' % ($bytes * 1e3 / ($end - $begin)))"
}
plain_socat() {
    local p; p=$(free_port)
    socat -b 262144 -u "tcp4-listen:$p,bind=127.0.0.1,reuseaddr" STDOUT >/dev/null & local listener=$!
    head -c "$bytes" /dev/zero | socat -b 262144 -u STDIN "tcp4:127.0.0.1:$p,retry=50,interval=0.02"
    wait "$listener"
}
ours() { "$transfer" "$1" "$bytes" "$port" "$dir/user" "$dir/known" "$dir/work"; }

echo "load before: $(cut -d' ' -f1-3 /proc/loadavg), cores: $(nproc)"
for _ in $(seq "$rounds"); do
    echo "ssh_cat $(timed "${login[@]}" "head -c $bytes /dev/zero")"
    echo "plain_socat $(timed plain_socat)"
    for method in relay socat scp; do echo "$method $(ours "$method")"; done
done >"$dir/rates"
"${login[@]}" -O exit 2>/dev/null || true
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
    print("%-12s best %7.1f MB/s, median %7.1f MB/s" % (name, best[name], middle[name]))
for name, against in ("relay", "ssh_cat"), ("scp", "ssh_cat"), ("socat", "plain_socat"):
    print("%-5s of %-11s best %.2f, median %.2f" % (name, against, best[name] / best[against], middle[name] / middle[against]))
PYTHON
