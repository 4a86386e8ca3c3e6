"""Progress in the comment of the SLURM job, which `squeue -o %k` and `scontrol show job` show."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Callable

from taskrun.driver.account import Account
from taskrun.engines import allocation

PAUSE = 60.0  # seconds between two comments
FIRST = 10.0  # seconds until the first one: of a short run the last one says all
PATIENCE = 20.0  # seconds for one answer of SLURM
CLOSE_SECONDS = 3.0  # for the last one
#: What we have written, also before counts added up (`taskrun 57/120, 1 failed`).
OURS = re.compile(r"taskrun (\d+/\d+(, \d+ failed)?|\d+ done(, \d+ failed)?(, \d+ skipped)?( of \d+)?)")


def text_of(tasks: Account, total: int | None) -> str:
    """`taskrun 56 done, 1 failed of 120`; of a stream nobody knows the total."""
    failed = f", {tasks.failed} failed" if tasks.failed else ""
    skipped = f", {tasks.skipped} skipped" if tasks.skipped else ""
    return f"taskrun {tasks.done} done{failed}{skipped}{'' if total is None else f' of {total}'}"


class Comment:
    """The comment of one job. One that somebody else has made is left alone. Nothing waits for SLURM, but for the end a little."""

    def __init__(self, job: str, text: Callable[[], str], log: Callable[[str, str], None]) -> None:
        """`log(level, text)` is called by `step` and `close` alone."""
        self.job = job
        self.text = text
        self.log = log
        self.now = time.monotonic
        self._due = self.now() + FIRST
        self._written = ""
        self._left_alone = False
        self._told = False
        self._closed = False
        self._writing: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def step(self) -> None:
        """Now and then."""
        if self.now() >= self._due and not self._busy:
            self._due = self.now() + PAUSE
            self._write()

    def close(self) -> None:
        """The run is over: the last comment. A SLURM that does not answer soon is not waited for."""
        end = self.now() + CLOSE_SECONDS
        self._wait(end)
        if not self._busy:
            self._write()
            self._wait(end)
        self._say_left_alone()
        self.abandon()

    def abandon(self) -> None:
        """Write nothing more, and end what hangs."""
        self._closed = True
        process = self._process
        if process is not None and process.poll() is None:
            process.kill()

    def _wait(self, end: float) -> None:
        if self._writing is not None:
            self._writing.join(max(0.0, end - self.now()))

    @property
    def _busy(self) -> bool:
        return self._writing is not None and self._writing.is_alive()

    def _write(self) -> None:
        text = self.text()
        self._say_left_alone()
        if text != self._written and not self._left_alone:
            self._writing = threading.Thread(target=self._replace, args=(text,), name="comment", daemon=True)
            self._writing.start()

    def _say_left_alone(self) -> None:
        if self._left_alone and not self._told:
            self._told = True
            self.log("INFO", "the comment of this job is somebody else's, and is left alone")

    def _replace(self, text: str) -> None:
        """Write it, in a thread of its own. The present comment is read each time: somebody may have written one meanwhile."""
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            comment = allocation.comment_of(self._ask("show", "job", "-o", self.job))
            if comment and not OURS.fullmatch(comment):
                self._left_alone = True
                return
            if not self._closed:
                self._ask("update", f"JobId={self.job}", f"Comment={text}")
                self._written = text

    def _ask(self, *words: str) -> str:
        """Raises OSError, SubprocessError."""
        self._process = process = subprocess.Popen(
            ["scontrol", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            said, _ = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, words)
        return said.decode("utf-8", "surrogateescape")
