"""PREFIX_attach.json: where a run listens, how it is known, and the secrets. It is there while the run lives, for its owner alone."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from taskrun.errors import Refused
from taskrun.status import trust
from taskrun.status.durable import replace_whole

VERSION = 1
LONGEST = 1 << 20  # bytes of a file
ADDRESSES_MOST = 100


@dataclass(frozen=True)
class Invitation:
    """`secret` is for who brings engines, `control` (`''` in a file that was made to be given away) also for looking at the run and
    sending engines away."""

    run_id: str
    addresses: list[tuple[str, int]]  # the first that answers
    fingerprint: str
    secret: str
    control: str = ""

    def __repr__(self) -> str:
        return f"Invitation({self.run_id}, {self.addresses})"

    def write(self, path: Path) -> None:
        """In the place of `path`, 0600 from the beginning. Raises OSError."""
        text = json.dumps({"v": VERSION, **asdict(self)}, indent=1) + "\n"
        replace_whole(path, text.encode("ascii"), 0o600)


def is_given_away(path: Path) -> bool:
    """An earlier one that was made for somebody else, which a new one may replace."""
    try:
        return path.is_file() and not load(path).control
    except (Refused, trust.Untrusted, OSError):
        return False


def load(path: Path) -> Invitation:
    """Raises Refused: it is no such file, or others may read or write it; Untrusted: it is somebody else's; FileNotFoundError."""
    try:
        with trust.opened(path, obeyed=False) as file:
            trust.check(file.fileno(), path, instead="")
            mode = os.fstat(file.fileno())
            text = file.read(LONGEST)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from None
    if stat.S_IMODE(mode.st_mode) & 0o077:
        raise Refused(f"{path} can be read by others, so its secret may be theirs: chmod 600 {path}, if you know that nobody has")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise Refused(f"{path} is no attach file of a run: it holds no JSON object")
    if values.get("v") != VERSION:
        raise Refused(f"{path} was written by a newer taskrun: attach with that one")
    for name, right in _RIGHT.items():
        if not right(values.get(name, "" if name == "control" else None)):
            raise Refused(f"{path} is no attach file of a run: the key '{name}' is missing or has a value it cannot have")
    addresses = [(host, port) for host, port in values["addresses"]]
    return Invitation(values["run_id"], addresses, values["fingerprint"], values["secret"], values.get("control", ""))


def _is_text(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII) is not None


def _are_addresses(value: Any) -> bool:
    return isinstance(value, list) and 0 < len(value) <= ADDRESSES_MOST and all(map(_is_address, value))


def _is_address(value: Any) -> bool:
    match value:
        case [str(host), int(port)]:
            return re.fullmatch(r"[^\s/\0]{1,255}", host) is not None and host.isprintable() and 0 < port < 1 << 16
    return False


#: What the values of the file may be.
_RIGHT: dict[str, Callable[[Any], bool]] = {
    "run_id": lambda value: _is_text(value, r"\w[\w.-]{0,99}"),
    "addresses": _are_addresses,
    "fingerprint": lambda value: _is_text(value, r"[0-9a-f]{64}"),
    "secret": lambda value: _is_text(value, r"[!-~]{1,200}"),
    "control": lambda value: _is_text(value, r"[!-~]{0,200}"),
}
