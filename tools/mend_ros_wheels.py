#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the CMake files of the ROS wheels name this environment's Python.

The wheels of ROS's message packages export CMake targets with paths of the machine that built
them (/opt/python/cp311-cp311/...). A message build stops there with "Imported target ... includes
non-existent path". Run with the environment's own Python; only files inside it are changed, and
a second run changes nothing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

BUILDER = re.compile(r"/opt/python/cp\d+-cp\d+/(include|lib)/python\d+\.\d+(/site-packages)?")


def local_path(found: re.Match[str]) -> str:
    """This interpreter's folder for one of the builder's: its headers or its site-packages."""
    if found[1] == "include":
        return sysconfig.get_paths()["include"]
    if found[2]:
        return sysconfig.get_paths()["platlib"]
    return sysconfig.get_paths()["platstdlib"]


def mend(prefix: Path) -> int:
    """Rewrite share/**/*.cmake below prefix; returns how many files changed."""
    changed = 0
    for path in sorted((prefix / "share").rglob("*.cmake")):
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
        mended = BUILDER.sub(local_path, text)
        if mended != text:
            path.write_text(mended, encoding="utf-8", errors="surrogateescape")
            changed += 1
    return changed


def main() -> None:
    if sys.prefix == sys.base_prefix:
        sys.exit("expected a virtual environment's Python, found the system's: use .venv's")
    print(f"mended {mend(Path(sys.prefix))} CMake files of the ROS wheels")


if __name__ == "__main__":
    main()
