"""Standard output and standard error as taskrun uses them: they are there, no character makes them fail, and ASCII is ASCII."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from taskrun.visible import spelt


class _Words(io.TextIOWrapper):
    """Standard error, where words go: what nobody can hear, or write in this encoding, is no reason to end."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            return


def make_usable() -> None:
    """Descriptors 0 to 2 are taken (`>&-` closes them, and a file of ours would get the number), and standard error cannot fail.

    Nor can standard output over a character.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    ascii_only = ascii_is_wanted(os.environ)
    encoding = "ascii" if ascii_only else "utf-8"
    codecs.register_error("as-it-can", _as_it_can)
    if sys.stdout is None or isinstance(
        getattr(sys.stdout, "buffer", None), io.RawIOBase
    ):  # with PYTHONUNBUFFERED a write may be cut short
        if sys.stdout is not None and not ascii_only:
            encoding = sys.stdout.encoding
        sys.stdout = open(1, "w", encoding=encoding, errors="as-it-can", closefd=False)
    elif isinstance(sys.stdout, io.TextIOWrapper) and (ascii_only or sys.stdout.errors == "strict"):
        sys.stdout.reconfigure(encoding="ascii" if ascii_only else None, errors="as-it-can")
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="ascii" if ascii_only else "utf-8", errors="spelt", closefd=False)
    elif type(sys.stderr) is io.TextIOWrapper and sys.stderr is sys.__stderr__:
        encoding = "ascii" if ascii_only else sys.stderr.encoding
        sys.stderr = _Words(sys.stderr.detach(), encoding=encoding, errors="spelt", line_buffering=True)


def ascii_is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether the person's locale has ASCII alone, although Python writes UTF-8 there. Where nothing is said UTF-8 it is."""
    if environ.get("PYTHONIOENCODING") or environ.get("PYTHONUTF8") == "1":
        return False  # said for Python itself
    if environ.get("LC_ALL"):
        return environ["LC_ALL"] in ("C", "POSIX")
    said = environ.get("LC_CTYPE", "")
    if said == "C.UTF-8" and environ.get("LANG") in ("C", "POSIX"):  # Python has set it, or the person
        said = _first_environment().get("LC_CTYPE", "")
    return (said or environ.get("LANG", "")) in ("C", "POSIX")


def _first_environment() -> dict[str, str]:
    """The environment that this process was started with."""
    try:
        data = Path("/proc/self/environ").read_bytes()
    except OSError:
        return {}
    return dict(item.split("=", 1) for item in os.fsdecode(data).split("\0") if "=" in item)


def _as_it_can(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes that were no text go out as they came."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return spelt(error)
