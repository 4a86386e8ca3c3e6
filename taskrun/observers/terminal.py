"""A terminal as something that is written to: never waited for, and what was drawn on it can be taken off again."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
from collections.abc import Mapping
from typing import TextIO

from taskrun import job

HELD_MOST = 1 << 16  # bytes of sentences kept while the terminal takes nothing (Ctrl-S, a link that hangs)


class Gone(Exception):
    """Nobody can read what is written there any more."""


class Terminal:
    """What is behind a stream that is a terminal.

    A frame is a few lines; the cursor stays visible and waits at the start of the last one, so that however the
    process ends, nothing has to be put back. All methods raise Gone when the terminal has been closed.
    """

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.stream = stream
        self.encoding = stream.encoding or "utf-8"
        self.reflows = reflows(environ)
        self.size = self._measure()
        self._shared = stream.fileno()
        self._fd = self._open()
        self._drawn: list[int] = []  # cells in each line of the frame that is there
        self._held = b""

    def _open(self) -> int:
        """A description of our own, on which a write never waits; the one we were given is shared with the shell."""
        with contextlib.suppress(OSError):
            return os.open(os.ttyname(self._shared), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        return -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _measure(self) -> os.terminal_size:
        """Of this terminal; stdout may be another, or none."""
        with contextlib.suppress(OSError):
            size = os.get_terminal_size(self.stream.fileno())
            if size.columns and size.lines:
                return size
        return shutil.get_terminal_size()

    @property
    def ours(self) -> bool:
        """We are in the foreground, or the terminal is none that has one."""
        try:
            return job.is_ours(os.tcgetpgrp(self._shared))
        except OSError:
            return True

    # writing

    def resized(self) -> None:
        self.size = self._measure()

    def forget(self) -> None:
        """What is drawn stays where it is: others have written since."""
        self._drawn = []

    def wipe(self) -> None:
        """For a view that has the screen to itself, when its size has changed: what a terminal makes of old frames then nobody can tell."""
        self._drawn = []
        self._write("\x1b[H\x1b[2J")

    def draw(self, lines: list[tuple[str, int]]) -> None:
        """Put a frame (line, its cells) in the place of the one that is there; nothing while the terminal takes nothing."""
        if self._busy():
            return
        rows = self._rows_above()
        self._drawn = [cells for _, cells in lines]
        self._write("\r" + (f"\x1b[{rows}A" if rows else "") + "\x1b[K\r\n".join(text for text, _ in lines) + "\x1b[J\r")

    def say(self, text: str) -> None:
        """A sentence in the place of the frame; the next frame comes below it."""
        text = text.replace("\n", "\r\n")
        self._write(f"{self._off()}{text}\r\n")

    def erase(self) -> None:
        if self._drawn:
            self._write(self._off())

    def _off(self) -> str:
        """What takes the frame off. Row by row: a screen that is cleared from its first cell on goes to tmux's history."""
        if not self._drawn:
            return ""
        fits = self._drawn[-1] <= self.size.columns
        text = "\r" + ("\x1b[K" if fits else "\x1b[J") + "\x1b[A\x1b[2K" * self._rows_above()
        self._drawn = []
        return text

    def _rows_above(self) -> int:
        """Rows of the frame above the cursor. A terminal that was made narrower since may have broken its lines in two."""
        width = self.size.columns
        return sum(max(1, -(-cells // width)) if self.reflows else 1 for cells in self._drawn[:-1])

    def _busy(self) -> bool:
        if self._held:
            self._write("")
        return bool(self._held)

    def _write(self, text: str) -> None:
        data = self._held + text.encode(self.encoding, "spelt")  # of visible.py
        self._held = b""
        try:
            if self._fd < 0:
                if _takes(self._shared):
                    data = data[os.write(self._shared, data) :]
            else:
                while data:
                    data = data[os.write(self._fd, data) :]
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:
            raise Gone(str(error)) from None
        self._held = data[-HELD_MOST:]

    def finish(self) -> None:
        """Write what was held back, however long that takes."""
        data, self._held = self._held, b""
        try:
            while data:
                data = data[os.write(self._shared, data) :]
        except (OSError, ValueError) as error:
            raise Gone(str(error)) from None


def _takes(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return any(what & select.POLLOUT for _, what in poll.poll(0))


def reflows(environ: Mapping[str, str]) -> bool:
    """Whether lines that do not fit any more go on in the next row. Most terminals do that; these cut them off."""
    if "TMUX" in environ or environ.get("TERM", "").startswith("tmux"):
        return True
    return "XTERM_VERSION" not in environ and environ.get("TERM", "").partition("-")[0] not in ("linux", "screen", "vt100", "vt220")
