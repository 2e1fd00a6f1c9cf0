#!/usr/bin/env bash
# setup.sh [PART...]
#
# Installs what the tests need: Debian packages, Python peers in their own environments, a MySQL base directory.
# Idempotent; says what it installs; fails loudly. `./test` runs it; a second run costs a second or two.
# PART names files of setup.d without their ending; without any, all of them.
#
# env: DBRECOVER_TEST_TOOLS   where the tools go (default: ~/.cache/dbrecover-test-tools)
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
export TOOLS=${DBRECOVER_TEST_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/dbrecover-test-tools}
mkdir -p "$TOOLS"

say() { printf 'setup: %s\n' "$*" >&2; }
die() { printf 'setup: error: %s\n' "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else command -v sudo >/dev/null || die "needs root or sudo for: $*"; sudo "$@"; fi
}

# need_apt PACKAGE...: installs the missing ones; services are not started (the tests start their own).
need_apt() {
    local missing=() p
    for p in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing from Debian: ${missing[*]}"
    if [ ! -e "$TOOLS/.apt-updated" ] || [ -n "$(find "$TOOLS/.apt-updated" -mmin +600)" ]; then
        as_root apt-get update -qq || die "apt-get update failed"
        touch "$TOOLS/.apt-updated"
    fi
    local policy=/usr/sbin/policy-rc.d made=
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null; as_root chmod 755 "$policy"; made=1
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >"$TOOLS/apt.log" 2>&1 ||
        { tail -n 20 "$TOOLS/apt.log" >&2; [ -z "$made" ] || as_root rm -f "$policy"; die "apt-get install ${missing[*]} failed"; }
    [ -z "$made" ] || as_root rm -f "$policy"
}

# need_venv NAME REQUIREMENT...: a Python environment $TOOLS/venv-NAME with exactly these requirements.
need_venv() {
    local name=$1 dir="$TOOLS/venv-$1"; shift
    [ "$(cat "$dir/.requirements" 2>/dev/null)" != "$*" ] || return 0
    say "installing from PyPI into $dir: $*"
    rm -rf "$dir"
    python3 -m venv "$dir" || die "python3 -m venv failed"
    "$dir/bin/pip" install -q "$@" >"$TOOLS/pip-$name.log" 2>&1 || { tail -n 20 "$TOOLS/pip-$name.log" >&2; die "pip install $* failed"; }
    printf '%s' "$*" >"$dir/.requirements"
}

[ $# -gt 0 ] || set -- $(cd "$here/setup.d" && printf '%s\n' *.sh)
for part in "$@"; do
    [ -r "$here/setup.d/${part%.sh}.sh" ] || die "no part $part in $here/setup.d"
    # shellcheck source=/dev/null
    . "$here/setup.d/${part%.sh}.sh"
done
say "ready: $TOOLS"
