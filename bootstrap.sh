#!/usr/bin/env bash
# Makes .venv from requirements.lock. Costs nothing when nothing has changed.
set -euo pipefail
cd "$(dirname "$0")"

fail() {
  printf 'set-up: %s\n' "$@" >&2
  exit 2
}

glibc_at_least() {
  local have
  have=$(getconf GNU_LIBC_VERSION 2>/dev/null | cut -d' ' -f2) || return 1
  [ "$(printf '%s\n%s\n' "$1" "$have" | sort -V | head -n1)" = "$1" ]
}

# The modern stack's wheels (Python 3.12, 3.13) need glibc 2.39; the compat stack (Python 3.11) runs on any current one.
versions=(3.11)
if glibc_at_least 2.39; then versions=(3.13 3.12 3.11); fi

find_python() {
  local version candidate
  for version in "${versions[@]}"; do
    # Who names an interpreter gets that one or none.
    for candidate in "${ADCLICK_PYTHON:-python$version}" "${ADCLICK_PYTHON:-python3}"; do
      if [ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = "$version" ]; then
        command -v "$candidate"
        return
      fi
    done
  done
  return 1
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || fail "TFX's wheels exist for Linux on x86-64 only; use such a machine or a container."
python=$(find_python) || fail "no Python ${versions[*]} found${ADCLICK_PYTHON:+ at $ADCLICK_PYTHON}." \
  "On Debian and Ubuntu: sudo apt-get install python3 python3-venv python3-dev" \
  "Or set ADCLICK_PYTHON to the interpreter to use."
name=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')

want=$(cat requirements.lock pyproject.toml setup.py bootstrap.sh <("$python" -VV) | sha256sum | cut -d' ' -f1)
stamp=.venv/.adclick-setup
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then exit 0; fi

"$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module." "On Debian and Ubuntu: sudo apt-get install ${name}-venv"
command -v g++ >/dev/null || fail "no C++ compiler (g++), which one dependency is built with." "On Debian and Ubuntu: sudo apt-get install g++"
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
  fail "no Python headers for $python, which one dependency is built with." "On Debian and Ubuntu: sudo apt-get install ${name}-dev"

echo "set-up: $name into .venv (the first time takes a minute or two)"
rm -f "$stamp"
if ! .venv/bin/python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != sys.argv[1][6:])' "$name" 2>/dev/null; then
  rm -rf .venv
  "$python" -m venv .venv
fi
if ! .venv/bin/uv --version >/dev/null 2>&1; then
  awk '/^[^ #]/ { keep = /^uv==/ } keep' requirements.lock >.venv/uv.lock.txt
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.lock.txt
fi
export UV_PYTHON_DOWNLOADS=never
# Compiled now, on all cores: who runs adclick may not be allowed to write there, and would compile it at every start.
.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python requirements.lock
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
.venv/bin/python -m compileall -q pipeline components models schema serving storage stream
echo "$want" >"$stamp"
