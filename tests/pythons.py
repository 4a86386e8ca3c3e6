"""Real interpreters for the agent, which must run on Python 3.6 and newer.

A host of the testbed has the system's own python. `ssh_hosts.with_python(k, interpreter)` gives it another.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from pathlib import Path

import pytest

_WANTED = ((3, 6), (3, 8))


@cache
def found() -> dict[tuple[int, int], Path]:
    """(3, minor) → interpreter, from the oldest on: those of pyenv, those on PATH, and the system's."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    path = [Path(name) for name in os.get_exec_path()]
    folders = [*sorted(pyenv.glob("versions/*/bin")), *path, Path("/usr/bin"), Path(sys.base_prefix, "bin")]
    interpreters: dict[tuple[int, int], Path] = {}
    for folder in folders:
        for file in folder.glob("python3.*"):
            if (match := re.fullmatch(r"python3\.(\d+)", file.name)) and os.access(file, os.X_OK) and folder.name != "shims":
                # Of a virtual environment, what it stands on: that is what can be put on a host.
                interpreters.setdefault((3, int(match[1])), file.resolve())
    return {version: interpreters[version] for version in sorted(interpreters) if version >= _WANTED[0]}


def chosen() -> list[object]:
    """Parameters for a test: 3.6 and 3.8, the oldest if these cannot be had here, and the newest."""
    versions = found()
    wanted = {version for version in _WANTED if version in versions} | {min(versions), max(versions)}
    return [pytest.param(versions[version], id=".".join(map(str, version))) for version in sorted(wanted)]


@pytest.fixture(scope="session")
def pythons() -> dict[tuple[int, int], Path]:
    """All interpreters there are, (3, minor) → path, from the oldest on."""
    return found()
