"""How an agent gets to a host with nothing installed: its files as one archive, and the command that takes them in there. Pure text.

The command goes through whatever login shell the user has (sh, bash, csh, fish) to /bin/sh: words in single quotes, without a quote, a
backslash, a newline or a `!` in them. It is short, since `ps` shows it: all else follows on standard input.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import zlib
from pathlib import Path
from typing import Literal, TypeAlias, get_args

_AGENT = Path(__file__).resolve().parent.parent / "agent"

#: Pythons by the names they have on hosts where `python3` is none, or an old one's.
PYTHONS = ("python3", "/usr/bin/python3", "/usr/local/bin/python3", "/usr/libexec/platform-python", "/opt/conda/bin/python3")
_RUN = "import sys,binascii;exec(binascii.a2b_base64(sys.argv[1]))"
STALL = 8.0  # seconds without a byte of what follows
EATEN = "taskrun: what came is not what was sent: does a login script here read standard input, or an option of ssh (-n, -f) take it away?"
NO_PYTHON = "taskrun: there is no python3 (3.6 or newer) on this host"

#: A program that the host's Python runs by itself, beside the agent: one file, and before it `errand` where it is a way of moving a file.
Program: TypeAlias = Literal["by_rclone", "by_url", "sums"]
ALONE = ("errand", *get_args(Program))
_BEFORE = "import sys,types\nerrand=sys.modules['errand']=types.ModuleType('errand')\nexec({!r},errand.__dict__)\n"

#: Where systems have OpenSSH's server for file transfers, which sshd starts; elsewhere it may be on PATH.
SFTP_SERVERS = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec", "/usr/lib/misc")
NO_SFTP_SERVER = "there is no sftp-server on this host: install openssh-sftp-server (debian, ubuntu) or openssh-server (fedora, rhel)"


@functools.cache
def archive() -> bytes:
    """The agent's modules, the same bytes for the same files: JSON of name -> text, compressed."""
    texts = {
        "agent" if path.stem == "__init__" else f"agent.{path.stem}": path.read_text(encoding="utf-8")
        for path in sorted(_AGENT.glob("*.py"))
        if path.stem not in ("boot", *ALONE)
    }
    return zlib.compress(json.dumps(texts, sort_keys=True).encode(), 9)


@functools.cache
def _boot() -> bytes:
    """Return the loader, which reads the archive and starts the agent."""
    data = archive()
    call = f"\nsys.exit(start({len(data)}, {hashlib.sha256(data).hexdigest()!r}))\n"
    return zlib.compress((_AGENT / "boot.py").read_bytes() + call.encode(), 9)


def shipment() -> bytes:
    """Return the bytes that follow on the standard input of the command."""
    return _boot() + archive()


@functools.cache
def words(*, stay: bool = False) -> list[str]:
    """The argument list that starts an agent on the host: /bin/sh finds a Python, which reads from standard input what it runs.

    In the words are no single quote, backslash, newline or `!`. `stay`: see boot.guard.
    """
    boot = _boot()
    size, crc = len(boot), zlib.crc32(boot)
    more = f"len(b)<{size} and select.select([0],[],[],{STALL:g})[0] and os.read(0,{size}-len(b)) or bytes()"
    read = f"b=bytearray();[b.extend(c) for c in iter(lambda:{more},bytes())]"
    run = f'import os,select,sys,zlib;{read};zlib.crc32(b)-{crc} and sys.exit("{EATEN}");exec(zlib.decompress(b))'
    find = f'for p in {" ".join(PYTHONS)}; do if command -v $p >/dev/null 2>&1; then exec $p -I -S -E -c "$1" $2; fi; done'
    return ["/bin/sh", "-c", f'{find}; echo "{NO_PYTHON}" >&2; exit 127', "taskrun", run, *(["stay"] if stay else [])]


def remote_command() -> str:
    """The same as a command line for a login shell on the host."""
    shell, option, *quoted = words()
    return " ".join(["exec", shell, option, *(f"'{word}'" for word in quoted)])


@functools.cache
def program(name: Program) -> str:
    """Its text."""
    text, errand, title = ((_AGENT / f"{each}.py").read_text(encoding="utf-8") for each in (name, "errand", "title"))
    return f"{title}\nshow('taskrun {name}')\n{'' if name == 'sums' else _BEFORE.format(errand)}{text}"


def python_command(name: Program) -> str:
    """The command line that makes the host's Python run it, through whatever login shell."""
    return f"{PYTHONS[0]} -I -S -E -c '{_RUN}' {_packed(name)}"


def python_words(name: Program) -> list[str]:
    """The same as an argument list, to be started on the host without a login shell."""
    run = 'exec $p -I -S -E -c "$1" "$2"'
    script = f'for p in {" ".join(PYTHONS)}; do if command -v $p >/dev/null 2>&1; then {run}; fi; done; echo "{NO_PYTHON}" >&2; exit 127'
    return ["/bin/sh", "-c", script, "taskrun", _RUN, _packed(name)]


def sftp_words() -> list[str]:
    """The argument list that starts a server for file transfers on the host, on standard input and output."""
    script = (
        f"for p in {' '.join(SFTP_SERVERS)}; do if [ -x $p/sftp-server ]; then exec $p/sftp-server; fi; done; "
        f'if command -v sftp-server >/dev/null 2>&1; then exec sftp-server; fi; echo "{NO_SFTP_SERVER}" >&2; exit 127'
    )
    return ["/bin/sh", "-c", script]


def _packed(name: Program) -> str:
    return base64.b64encode(program(name).encode()).decode()
