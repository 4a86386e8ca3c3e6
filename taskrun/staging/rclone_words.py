"""What rclone says, and what it calls files. Pure."""

from __future__ import annotations

import re

from taskrun.staging.store import Denied, Missing, Permanent, StoreError, Transient

NOT_FOUND = (3, 4)  # exit codes
_FATAL = 7
_MESSAGE = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (?:[A-Z]+\s*: )?", re.MULTILINE)
PICTURED = re.compile("[\x01-\x1f\x7f␀-␟␡\udc80-\udcff]")
_SHOWN = re.compile("‛([89A-F][0-9A-F])|‛([␀-␟␡])|[␀-␟␡]")
_MISSING = re.compile(r"not found|no such|nosuchbucket|doesn't exist|404", re.IGNORECASE)
_DENIED = re.compile(
    r"access ?denied|permission denied|forbidden|unauthori[sz]ed|invalidaccesskey|signaturedoesnotmatch|\b40[13]\b", re.IGNORECASE
)
_SETUP = re.compile(
    r"didn't find section in config|unknown (?:flag|command|backend|type)|couldn't find|failed to load config", re.IGNORECASE
)


def meaning(place: str, code: int, said: str) -> StoreError:
    """How it failed, from its exit code and the end of what it said."""
    last = _MESSAGE.split(said)[-1]
    line = " ".join(last.split())[:400] or f"rclone ended with {code}"
    text = f"{place}: {line}"
    if _SETUP.search(line):
        return Permanent(text)
    if _DENIED.search(line):
        return Denied(text)
    if code in NOT_FOUND or _MISSING.search(line):
        return Missing(text)
    return (Permanent if code == _FATAL else Transient)(text)


def is_text(name: str) -> bool:
    """Whether a name is UTF-8."""
    return not re.search("[\udc80-\udcff]", name)


def to_rclone(name: str) -> str:
    """rclone shows control characters as pictures and stray bytes as hex digits, and takes these for what they mean."""

    def shown(found: re.Match[str]) -> str:
        code = ord(found[0])
        if code == 0x7F:
            return "␡"
        return chr(0x2400 + code) if code < 0x20 else f"‛{code & 0xFF:02X}" if 0xDC80 <= code <= 0xDCFF else f"‛{found[0]}"

    return PICTURED.sub(shown, name)


def from_rclone(name: str) -> str:
    def plain(found: re.Match[str]) -> str:
        if found[1]:
            return chr(0xDC00 + int(found[1], 16))
        return found[2] or ("\x7f" if found[0] == "␡" else chr(ord(found[0]) - 0x2400))

    return _SHOWN.sub(plain, name)
