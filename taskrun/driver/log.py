"""PREFIX_driver.log: for us, in case of trouble. Nothing per task. (The logging module costs a start 12 ms.)"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from pathlib import Path

from taskrun.status import opening
from taskrun.visible import visible

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_STREAMS = r"/(?:dev/fd|proc/self/fd)/(\d+)|/dev/(stdout|stderr)"


class Log:
    """Appends lines. A log that cannot be written is no reason to stop: it falls silent."""

    def __init__(self, path: Path | None, level: str) -> None:
        """`path`: None for no log. Raises OSError when the file cannot be opened, or holds something else."""
        self._least = LEVELS.index(level)
        self._fd = _open(path) if path is not None else -1
        self._early: list[tuple[str, str]] | None = [] if path is None else None
        self.made = self._fd >= 0 and not os.fstat(self._fd).st_size  # nothing was in it before

    def write(self, level: str, text: str) -> None:
        if self._early is not None:
            self._early.append((level, text))
        if self._fd >= 0 and LEVELS.index(level) >= self._least:
            now = time.time()
            stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}.{int(now % 1 * 1000):03d}"
            shown = visible(text, keep="\n")  # also a log is read on a terminal
            with contextlib.suppress(OSError):
                os.write(self._fd, f"{stamp} {level} {shown}\n".encode())

    def take_early(self) -> list[tuple[str, str]]:
        """Return the lines of a log that has no file yet; it keeps nothing more."""
        early, self._early = self._early or [], None
        return early

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _open(path: Path) -> int:
    """For appending, to a log or to a device. Raises OSError."""
    stream = re.fullmatch(_STREAMS, str(path)) if path.parts[1:2] in (("dev",), ("proc",)) else None
    if stream is not None:  # a descriptor that we have, whatever it is: the name is a link in the system's own folder
        return os.dup(int(stream[1] or {"stdout": 1, "stderr": 2}[stream[2]]))
    fd = opening.own(path, device=True)
    regular = stat.S_ISREG(os.fstat(fd).st_mode)
    begins = os.pread(fd, 11, 0) if regular else b""
    if begins and not re.match(rb"\d{4}-\d\d-\d\d ", begins):  # nothing is appended to somebody's task file or records
        os.close(fd)
        raise OSError(errno.EEXIST, "it is there already, and is no log: name another file")
    return fd
