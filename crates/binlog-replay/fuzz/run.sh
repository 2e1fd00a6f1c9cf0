#!/usr/bin/env bash
# Runs one fuzz target on the stable toolchain without cargo-fuzz.
# usage: fuzz/run.sh TARGET [SECONDS]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
target=${1:?usage: fuzz/run.sh TARGET [SECONDS]}
# The coverage flags that cargo-fuzz uses; no sanitizer, which would need nightly.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
# With a target named, build scripts and macros are built without these flags.
cargo build --release --target "$host" --bin "$target"
mkdir -p "corpus/$target" "artifacts/$target"
exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" -artifact_prefix="artifacts/$target/" \
    -max_total_time="${2:-60}" -rss_limit_mb=512 -timeout=10 "corpus/$target" ../tests/fixtures/*/
