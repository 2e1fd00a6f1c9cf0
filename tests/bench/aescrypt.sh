#!/usr/bin/env bash
# Compares `dbrecover aescrypt` with pyAesCrypt and with the format's bound, SHA-256 in one thread, in one run.
# Prints rates and ratios. Needs hyperfine, openssl, and what tests/setup.sh installs; the files lie in memory.
#
# usage: tests/bench/aescrypt.sh [MEBIBYTES]     (default 512)
#
# env: DBRECOVER   the program, if it is built already
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
size=${1:-512}
tools=${DBRECOVER_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dbrecover-test-tools}
py=$tools/venv-pyaescrypt-6.1.1/bin/pyAesCrypt
[ -x "$py" ] || { echo "$py is missing; run tests/setup.sh" >&2; exit 1; }
for tool in hyperfine openssl python3; do command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }; done
dbrecover=${DBRECOVER:-}
if [ -z "$dbrecover" ]; then
    cargo build --release --quiet --bin dbrecover
    dbrecover=${CARGO_TARGET_DIR:-target}/release/dbrecover
fi
dir=$(mktemp -d /dev/shm/aescrypt-bench.XXXXXX)
trap 'rm -rf "$dir"' EXIT
head -c "${size}M" /dev/urandom >"$dir/plain"
printf 'bench\n' >"$dir/pw"
"$dbrecover" aescrypt -e --password-file "$dir/pw" -o "$dir/secret.aes" "$dir/plain"

ours="$dbrecover aescrypt --password-file $dir/pw"
hyperfine --warmup 1 --runs 5 --export-json "$dir/result.json" --style none \
    -n 'decrypt to a pipe'        "$ours -d -o - $dir/secret.aes >/dev/null" \
    -n 'decrypt to a file'        "$ours -d -o $dir/out $dir/secret.aes" \
    -n 'encrypt to a file'        "$ours -e -o $dir/out.aes $dir/plain" \
    -n 'sha256 of the same bytes' "openssl dgst -sha256 $dir/plain" \
    -n 'cat to a file'            "cat $dir/secret.aes >$dir/out" \
    -n 'pyAesCrypt decrypt'       "$py -d -p bench -o $dir/out $dir/secret.aes" \
    -n 'pyAesCrypt encrypt'       "$py -e -p bench -o $dir/out.aes $dir/plain" >/dev/null

python3 - "$dir/result.json" "$size" "$ours -d -o - $dir/secret.aes" <<'PYTHON'
import json, resource, shlex, subprocess, sys
results = {r["command"]: min(r["times"]) for r in json.load(open(sys.argv[1]))["results"]}
size = int(sys.argv[2])
for name, seconds in results.items():
    print(f"{name:26} {seconds:7.3f} s {size / seconds:7.0f} MiB/s")
print()
for name, stock in (("decrypt to a file", "pyAesCrypt decrypt"), ("encrypt to a file", "pyAesCrypt encrypt")):
    print(f"{name}: {results[stock] / results[name]:.2f} times {stock}")
bound = results["sha256 of the same bytes"]
for name in ("decrypt to a pipe", "decrypt to a file"):
    print(f"{name}: {100 * bound / results[name]:.0f} % of the rate of SHA-256 in one thread")
subprocess.run(shlex.split(sys.argv[3]), stdout=subprocess.DEVNULL, check=True)
print(f"peak memory of a decryption: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.1f} MiB")
PYTHON
