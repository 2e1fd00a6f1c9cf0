#!/usr/bin/env bash
# Makes the package of every crate as it would be published, and looks into each: readme, both licences, no fuzzing.
#
# usage: tests/package.sh [--verify]     with --verify each package is built from nothing but itself and the others
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
verify=--no-verify
[ "${1:-}" != --verify ] || verify=
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
# shellcheck disable=SC2086
cargo package --workspace --exclude lab --allow-dirty --quiet $verify
packages=${CARGO_TARGET_DIR:-target}/package
for crate in crates/*/Cargo.toml; do
    name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$crate" | head -n 1)
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
    tar -tzf "$packages/$name-$version.crate" >"$out/list"
    for file in Cargo.toml README.md LICENSE-MIT LICENSE-APACHE; do
        grep -qx "$name-$version/$file" "$out/list" || { echo "package: $name has no $file" >&2; exit 1; }
    done
    ! grep "/fuzz/" "$out/list" >&2 || { echo "package: $name holds its fuzz targets" >&2; exit 1; }
    printf 'package: %s %s: %d files, %d bytes\n' "$name" "$version" "$(wc -l <"$out/list")" "$(wc -c <"$packages/$name-$version.crate")"
done
