"""The shell's job that this process belongs to, where another process stands for it: the front (cli/front.py)."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import NamedTuple


class Front(NamedTuple):
    """The process that the shell knows. It can be stopped; this one goes on."""

    pid: int
    group: int  # its process group
    life_fd: int  # at its end when the front has ended
    said_fd: int  # takes a byte when all is said and the front may stop

    def may_stop(self) -> None:
        """The person has been told."""
        with contextlib.suppress(OSError):  # it waits no longer, or has gone
            os.write(self.said_fd, b"x")

    def wake(self) -> None:
        """Continue the front, which may be stopped: it has to see the end of this process."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)


#: None: the shell knows this process itself, or there is no shell.
front: Front | None = None


def toggles() -> bool:
    """Ctrl-Z suspends and, pressed again, continues: tasks are typed in, so that no shell can prompt (nor take `fg`) meanwhile."""
    return front is None and os.isatty(0)


def is_ours(group: int) -> bool:
    """Return whether the process group that has a terminal is this job's."""
    return group == os.getpgrp() or (front is not None and group == front.group)
