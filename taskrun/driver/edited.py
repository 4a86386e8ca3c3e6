"""The lines of a run's task file, kept in its sidecar, and compared with those of the file when the run is resumed."""

from __future__ import annotations

import contextlib
import threading
from hashlib import sha256

from taskrun import threads
from taskrun.driver import files
from taskrun.driver.task_text import TaskText
from taskrun.errors import Refused
from taskrun.language import Scan
from taskrun.options import Options
from taskrun.planning import edits
from taskrun.planning.edits import Appended, Digester, Unrun
from taskrun.status import sidecar
from taskrun.status.sidecar import Lines, TaskFile

AT_ONCE_LINES = 20_000  # of a file that is digested before the run: about 5 ms
AT_ONCE_BYTES = 1 << 20
PER_SECOND = 1 << 26  # bytes of a file for each second that passes before it is digested: one that grows is digested again


def lines_of(text: TaskText, scan: Scan) -> Lines | None:
    """The digests of the text as far as it was scanned, None if it is not the same any more or cannot be read."""
    digester = Digester(edits.group_of(scan.lines))
    digest = sha256()
    try:
        for data in text.pieces(scan.size):
            digest.update(data)
            digester.feed(data)
    except OSError:
        return None
    return digester.close() if digest.hexdigest() == scan.sha256 else None


def lines_at_once(text: TaskText, scan: Scan) -> Lines | None:
    """The same of a file that is not long, None of one that is."""
    return lines_of(text, scan) if scan.lines <= AT_ONCE_LINES and scan.size <= AT_ONCE_BYTES else None


def first_difference(text: TaskText, before: Lines | None) -> tuple[int, int]:
    """The lines between which the open file differs first from what it was; (0, 0): not known."""
    if before is None:
        return 0, 0
    digester = Digester(before.group, before.count, numbered=True)
    try:
        for data in text.pieces(text.scan.size):
            digester.feed(data)
    except OSError:
        return 0, 0
    return edits.first_difference(before, digester.close(), digester.numbers)


class LaterLines:
    """The same of a long file, in a thread that begins a second later or more, so that no task starts later because of it."""

    def __init__(self, text: TaskText, scan: Scan) -> None:
        self._text = text
        self._scan = scan
        self._looks = 0
        self._thread: threading.Thread | None = None
        self._found: Lines | None = None
        self._taken = False

    def step(self) -> Lines | None:
        """Every second, beginning at once: what was found, given once."""
        self._looks += 1
        if self._taken or self._looks < 2 + self._scan.size // PER_SECOND:
            return None
        if self._thread is None:
            with contextlib.suppress(Refused):  # no room for a thread: at the end, then
                self._thread = threads.start(self._work, "digests of the task file")
            return None
        if self._thread.is_alive():
            return None
        self._taken = True
        return self._found

    def finish(self) -> Lines | None:
        """At the end of the run: what was found."""
        if self._thread is None:
            self._work()
        else:
            self._thread.join()
        self._taken = True
        return self._found

    def _work(self) -> None:
        self._found = lines_of(self._text, self._scan)


class Earlier:
    """The task file of the newest of the runs that are resumed, where it is not the one of now."""

    def __init__(self, text: TaskText, before: TaskFile, status: str) -> None:
        self.unrun = Unrun()
        self._text = text
        self._path = text.path
        self._before = before
        self._status = status

    def look(self) -> str:
        """A sentence about lines that were added, '' if none were. Called when `unrun` is complete.

        Raises Refused when unrun tasks may have changed.
        """
        before = self._before
        digester = Digester(before.lines.group, before.lines.count, numbered=True) if before.lines is not None else None
        appended = Appended(before.size, before.sha256)
        digest = sha256()
        try:
            for data in self._text.pieces(self._text.scan.size):
                digest.update(data)
                appended.feed(data)
                if digester is not None:
                    digester.feed(data)
        except OSError as error:
            raise Refused(f"{self._path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
        if digest.hexdigest() != self._text.scan.sha256:
            raise Refused(f"{self._path}: the file was changed while it was being read: try again")
        name = self._path.name
        added = appended.close()
        if added is not None:
            return edits.added_text(name, added) if added else ""
        if not self.unrun.count:
            return ""
        if digester is None or before.lines is None:
            raise Refused(edits.unknown_text(str(self._path), self._status, self.unrun.count))
        change = edits.changed(before.lines, digester.close(), digester.numbers, self.unrun)
        if change is not None:
            raise Refused(edits.change_text(str(self._path), self._status, change))
        new = len(digester.numbers) - before.lines.count
        return edits.added_text(name, new) if new > 0 else ""


def earlier_file(options: Options, text: TaskText | None, *, own: bool) -> Earlier | None:
    """Return what a resume must compare; None when the file is the same, or the user has said that it may be another one.

    `own`: SLURM has started this job again, and tasks are found by their ids in its own file, whatever --match says.
    """
    if text is None or options.force_resume or (options.match == "command" and not own):
        return None
    runs = []
    for name in options.resume_from:
        status = files.absolute(name)
        with contextlib.suppress(Refused):  # disBatch's has none
            runs.append((sidecar.load(sidecar.find(status)), status))
    if not runs:
        return None
    newest, status = max(runs, key=lambda each: each[0].started)
    before = newest.task_file
    return None if before is None or before.sha256 == text.scan.sha256 else Earlier(text, before, status.name)
