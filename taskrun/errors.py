"""Errors a user can meet, and the table of exit codes. Anything else that is raised is a bug and shows a traceback."""

from __future__ import annotations

import re
from enum import IntEnum

from taskrun.visible import visible

_DIAGNOSTIC = re.compile(r".*:\d+:\d+: (?:error|warning): ").match


class ExitCode(IntEnum):
    """What the exit code of a run means (the one documented table)."""

    OK = 0  # all ran; failed tasks do not count unless asked
    TASKS_FAILED = 1  # with -e, --fail-fast or a failed BARRIER CHECK
    REFUSED = 2  # nothing was run
    STOPPED = 3  # stopped before the end, resumable
    RECORDS = 4  # could not keep records
    INTERRUPTED = 130  # ended by a second SIGINT
    TERMINATED = 143  # ended by a second SIGTERM


class Handled(Exception):
    """An error explained in one sentence: the place, what is wrong, the next step. Printed without a traceback."""

    exit_code = ExitCode.REFUSED

    @property
    def told(self) -> str:
        """The sentence as the person reads it."""
        return told(str(self))


class Refused(Handled):
    """Nothing was run, and nothing will be until the person changes something."""


class WrongTasks(Refused):
    """Problems of a task file, rendered for the terminal, with its colours."""

    @property
    def told(self) -> str:
        return str(self)


class RecordsFailed(Handled):
    """A record could not be written or made durable; the run must not go on without its records."""

    exit_code = ExitCode.RECORDS


def told(text: str) -> str:
    """`text` as the person reads it: with our name before it, unless it is about a line of the task file and begins with that place.

    What a terminal would obey is visible; only our newlines stay.
    """
    text = visible(text, keep="\n")
    return text if _DIAGNOSTIC(text) else f"taskrun: {text}"
