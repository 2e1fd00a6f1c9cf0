#!/usr/bin/env bash
# Runs one fuzz target of a crate on the stable toolchain, without cargo-fuzz. A failing input is kept in the crate's
# fuzz/artifacts; inputs that reached something new in fuzz/corpus.
#
# usage: tests/fuzz.sh CRATE TARGET [SECONDS]     (default 60)
#        tests/fuzz.sh --all [SECONDS]            every target of every crate, one after another
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ "${1:-}" = --all ]; then
    for source in crates/*/fuzz/fuzz_targets/*.rs; do
        crate=${source#crates/}
        "$0" "${crate%%/*}" "$(basename "$source" .rs)" "${2:-60}"
    done
    exit
fi
crate=${1:?usage: tests/fuzz.sh CRATE TARGET [SECONDS]} target=${2:?usage: tests/fuzz.sh CRATE TARGET [SECONDS]}
cd "crates/$crate/fuzz"
# The coverage flags that cargo-fuzz uses; no sanitizer, which would need nightly.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, build scripts and macros are built without these flags.
cargo build --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" "artifacts/$target"
# Targets that unpack do it in memory.
[ ! -d /dev/shm ] || export TMPDIR=/dev/shm
seeds=()
for dir in "../tests/corpus/$target" ../tests/fixtures/*/; do
    [ ! -d "$dir" ] || seeds+=("$dir")
done
exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" -artifact_prefix="artifacts/$target/" \
    -max_total_time="${3:-60}" -rss_limit_mb=512 -timeout=10 "corpus/$target" "${seeds[@]}"
