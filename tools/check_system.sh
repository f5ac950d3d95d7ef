#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Names, in one line, the system packages that are missing for a build with the given Python.
set -eu
python=$1
missing=

command -v cmake >/dev/null || missing="$missing cmake"
command -v c++ >/dev/null || missing="$missing g++"
if command -v "$python" >/dev/null; then
    "$python" - <<'PYTHON' || exit 1
import sys

if not (3, 10) <= sys.version_info[:2] <= (3, 13):
    sys.exit(
        f"expected Python 3.10 to 3.13, found {sys.version.split()[0]} at {sys.executable}: "
        "name another, for example: make PYTHON=python3.12"
    )
PYTHON
    # Debian names a versioned interpreter's parts after it: python3.12-venv, python3.12-dev
    name=$(basename "$python")
    "$python" -c 'import ensurepip' 2>/dev/null || missing="$missing $name-venv"
    "$python" -c 'import os, sysconfig as s; os.stat(s.get_paths()["include"] + "/Python.h")' \
        2>/dev/null || missing="$missing $name-dev"
else
    missing="$missing $python $python-venv $python-dev"
fi

[ -z "$missing" ] || { echo "missing on this machine: sudo apt-get install$missing" >&2; exit 1; }
