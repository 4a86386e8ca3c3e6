"""PREFIX_attach.json: where a run listens, how it is known, and the secrets. It is there while the run lives, for its owner alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

from taskrun.errors import Refused

VERSION = 1
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


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
        part = path.with_name(f"{path.name}.{os.getpid()}.new")
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="ascii") as file:
                file.write(text)
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def is_given_away(path: Path) -> bool:
    """An earlier one that was made for somebody else, which a new one may replace."""
    try:
        return path.is_file() and not load(path).control
    except (Refused, OSError):
        return False


def load(path: Path) -> Invitation:
    """Raises Refused: it is no such file, or others may read or write it; FileNotFoundError."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno())
            text = file.read(1 << 20)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Refused(f"{path} cannot be read: {os.strerror(error.errno or 0)}") from None
    if stat.S_IMODE(mode.st_mode) & 0o077:
        raise Refused(f"{path} can be read by others, so its secret may be theirs: chmod 600 {path}, if you know that nobody has")
    try:
        values = json.loads(text)
        found = Invitation(
            str(values["run_id"]),
            [(str(host), int(port)) for host, port in values["addresses"]],
            str(values["fingerprint"]),
            str(values["secret"]),
            str(values.get("control", "")),
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Refused(f"{path} is no attach file of a run") from None
    if values.get("v") != VERSION:
        raise Refused(f"{path} was written by a newer taskrun: attach with that one")
    if not (found.addresses and found.secret and _FINGERPRINT.fullmatch(found.fingerprint) and found.run_id.isprintable()):
        raise Refused(f"{path} is no attach file of a run")
    return found
