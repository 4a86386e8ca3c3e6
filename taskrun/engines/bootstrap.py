"""How an agent gets to a host with nothing installed: its files as one archive, and the command that takes them in there. Pure text.

The command goes through whatever login shell the user has (sh, bash, csh, fish) to /bin/sh: one word in single quotes, without a quote, a
backslash, a newline or a `!` in it. The archive follows on standard input.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import zlib
from pathlib import Path

_AGENT = Path(__file__).resolve().parent.parent / "agent"

#: Pythons by the names they have on hosts where `python3` is none, or an old one's.
PYTHONS = ("python3", "/usr/bin/python3", "/usr/local/bin/python3", "/usr/libexec/platform-python", "/opt/conda/bin/python3")
_RUN = "import sys,binascii;exec(binascii.a2b_base64(sys.argv[1]))"
NO_PYTHON = "taskrun: there is no python3 (3.6 or newer) on this host"


@functools.cache
def archive() -> bytes:
    """The agent's modules, the same bytes for the same files: JSON of name -> text, compressed."""
    texts = {
        "agent" if path.stem == "__init__" else f"agent.{path.stem}": path.read_text(encoding="utf-8")
        for path in sorted(_AGENT.glob("*.py"))
        if path.stem not in ("boot", "errand")
    }
    return zlib.compress(json.dumps(texts, sort_keys=True).encode(), 9)


@functools.cache
def script() -> str:
    """What /bin/sh does on the host: find a Python, run it, and say how it ended: a signal would be no exit code for ssh.

    It may hold no single quote, backslash, newline or `!`.
    """
    data = archive()
    boot = base64.b64encode((_AGENT / "boot.py").read_bytes() + b"\nsys.exit(start(int(sys.argv[2]), sys.argv[3]))\n").decode()
    run = f'$p -I -S -E -c "{_RUN}" {boot} {len(data)} {hashlib.sha256(data).hexdigest()}; exit $?'
    return f'for p in {" ".join(PYTHONS)}; do if command -v $p >/dev/null 2>&1; then {run}; fi; done; echo "{NO_PYTHON}" >&2; exit 127'


def remote_command() -> str:
    """The command line for a login shell on the host. The archive is to follow on its standard input."""
    return f"exec /bin/sh -c '{script()}'"


@functools.cache
def errand() -> str:
    """What the host's Python runs to have a file moved by the host's own rclone."""
    return (_AGENT / "errand.py").read_text(encoding="utf-8")


def python_command(text: str) -> str:
    """The command line that makes the host's Python run this text, through whatever login shell."""
    return f"{PYTHONS[0]} -I -S -E -c '{_RUN}' {base64.b64encode(text.encode()).decode()}"
