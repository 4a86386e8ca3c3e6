"""What becomes of a run when its task file grows or is replaced: its numbers, its sidecar, and what the person is told."""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING

from taskrun.driver import additions, edited
from taskrun.driver.additions import Addition
from taskrun.errors import RecordsFailed
from taskrun.status import names

if TYPE_CHECKING:
    from taskrun.driver.run import Run
    from taskrun.driver.task_text import TaskText


class Growth:
    """Told by the supply (see file_supply.Watcher)."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._times = 0
        self._lines = 0  # that were added
        self._told = ""

    @property
    def _text(self) -> TaskText:
        assert self._run.source.text is not None
        return self._run.source.text

    def grown(self, addition: Addition) -> None:
        """Called before any of the lines runs, so that a resume knows them."""
        run, scan = self._run, self._text.scan
        run.source = run.source._replace(scan=scan)
        if run.before is not None:
            run.before = run.before._replace(to_run=run.before.to_run + addition.tasks)
        if addition.problems and not run.options.quiet:
            run.say(addition.problems)
        for note in run.source.lists.take_notes():
            run.say(note)
        if addition.lines:
            self._tell(addition)
        if run.sidecar.task_file is not None:
            lines = edited.lines_at_once(self._text, scan)
            if lines is None:
                run.later = edited.LaterLines(self._text, scan)
            task_file = run.sidecar.task_file  # digests of the lines above stay of use
            task_file.sha256, task_file.size, task_file.lines = scan.sha256, scan.size, lines or task_file.lines
        if run.before is not None:
            run.sidecar.counts = run.before.counts()
        with contextlib.suppress(RecordsFailed):  # to a resume they are lines that were added
            run.sidecar.write(names.with_suffix(run.prefix, names.SIDECAR))

    def _tell(self, addition: Addition) -> None:
        """Print it once, however often lines are added."""
        self._times += 1
        self._lines += addition.lines
        if self._times == 1:
            self._run.say(additions.told_of(addition, self._text.shown))
        else:
            self._run.log.write("INFO", f"{self._text.shown} has grown by {addition.lines} more, {self._lines} in all")

    def refused(self, problems: str) -> None:
        self._run.say(f"{problems}\n{self._text.shown}: the lines that were added are not run until this is corrected", always=True)

    def skipped(self, code: int) -> None:
        before = self._run.before
        if before is not None:
            self._run.before = before._replace(skipped=before.skipped + 1, failed=before.failed + (code != 0), to_run=before.to_run - 1)

    def difference(self) -> tuple[int, int]:
        task_file = self._run.sidecar.task_file
        return (0, 0) if task_file is None else edited.first_difference(self._text, task_file.lines)

    def replaced(self) -> None:
        with contextlib.suppress(OSError):
            same, _, line = self._text.compare()
            if not same:
                self._run.say(f"{self._from(line)} is another now: the run goes on with the lines that it began with")

    def tell_at_end(self) -> None:
        """Tell what of the file, as it is when all has ended, was not run."""
        run = self._run
        supply = run.drive.supply
        if run.source.text is None or supply is None or supply.broken or run.drive.scheduler.stop_why:
            return
        text = self._text
        if self._times > 1:
            run.say(f"{self._lines:,} lines were added to {text.shown} during the run")
        if not text.disturbed:
            return
        with contextlib.suppress(OSError):
            same, lines, line = text.compare()
            again = f"taskrun -r {shlex.quote(run.shown(run.status_path))}"
            if not same:
                said = f"{self._from(line or self.difference()[0])} is not any more what was run"
                run.say(f"{said}; `{again} --match command` runs what is new")
            elif lines:
                count = f"{lines:,} line{'s'[: lines != 1]}"
                run.say(f"{text.shown} has grown by {count} since the last task ended; `{again}` runs what is new")

    def _from(self, line: int) -> str:
        shown = self._text.shown
        return f"{shown}:{line}:1: from this line on the file" if line else f"{shown}: the file"
