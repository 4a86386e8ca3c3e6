"""An agent behind a process of the driver's: the agent itself, or a program that reaches it. Its input and output are the link."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Mapping

from taskrun.engines.link import Link

SETTLE_SECONDS = 1.0  # from the end of its output to its own


class ChildAgent:
    """What all such agents have in common."""

    held = False

    def __init__(self, argv: list[str], log_fd: int, *, pass_fds: tuple[int, ...] = (), env: Mapping[str, str] | None = None) -> None:
        """`log_fd`: takes its standard error. Raises OSError when the program cannot be started."""
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_fd,
            pass_fds=pass_fds,
            start_new_session=True,
            bufsize=0,
            env=env,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.link = Link(os.dup(self.process.stdout.fileno()), os.dup(self.process.stdin.fileno()))
        self.process.stdin.close()
        self.process.stdout.close()

    @property
    def reached(self) -> bool:
        return self.link.taken

    @property
    def code(self) -> int:
        return self.process.poll() or 0

    @property
    def settled(self) -> bool:
        return self.process.poll() is not None

    def settle(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):  # its link is closed: it is on its way out
            self.process.wait(SETTLE_SECONDS)

    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
