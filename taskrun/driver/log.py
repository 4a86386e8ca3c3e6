"""PREFIX_driver.log: for us, in case of trouble. Nothing per task. (The logging module costs a start 12 ms.)"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import time
from pathlib import Path

from taskrun.visible import visible

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class Log:
    """Appends lines. A log that cannot be written is no reason to stop: it falls silent."""

    def __init__(self, path: Path | None, level: str) -> None:
        """`path`: None for no log. Raises OSError when the file cannot be opened, or holds something else."""
        if path is not None and path.is_file() and _is_something_else(path):
            raise OSError(errno.EEXIST, "it is there already, and is no log: name another file")
        self._least = LEVELS.index(level)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666) if path is not None else -1

    def write(self, level: str, text: str) -> None:
        if self._fd >= 0 and LEVELS.index(level) >= self._least:
            now = time.time()
            stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))}.{int(now % 1 * 1000):03d}"
            shown = visible(text, keep="\n")  # also a log is read on a terminal
            with contextlib.suppress(OSError):
                os.write(self._fd, f"{stamp} {level} {shown}\n".encode())

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _is_something_else(path: Path) -> bool:
    """Whether a file does not begin as a log does: nothing is appended to somebody's task file or records."""
    with path.open("rb") as file:
        return not re.match(rb"\d{4}-\d\d-\d\d |\Z", file.read(11))
