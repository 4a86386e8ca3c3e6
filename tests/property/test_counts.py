"""Numbers of tasks on a screen: each task is in one of them, so that they add up to all tasks, in every view."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskrun.driver import dry_run
from taskrun.driver.account import OnRecord, account
from taskrun.driver.comment import OURS, text_of
from taskrun.errors import ExitCode
from taskrun.observers import monitor, replay
from taskrun.observers.frame import Painter
from taskrun.observers.progress import Progress, Times, plain_line
from taskrun.observers.summary import Ending, summary_lines
from taskrun.scheduling.ledger import Counts
from taskrun.status import sidecar

_NUMBER = re.compile(r"([\d,]+)(?: tasks?)? (done|running|failed|skipped|left|not run|to run again|to run)\b")


def numbers(text: str) -> dict[str, int]:
    """The counts of the first line that has some."""
    line = next(line for line in text.splitlines() if _NUMBER.search(line))
    found = [(name, int(number.replace(",", ""))) for number, name in _NUMBER.findall(line)]
    assert len(dict(found)) == len(found), f"one number for one thing: {line}"
    return dict(found)


@dataclass
class Mix:
    """Tasks by what became of them."""

    ok: int
    bad: int  # failed in this run
    old_ok: int
    old_bad: int  # failed on record, and do not run again
    running: int
    waiting: int
    stream: bool

    @property
    def all(self) -> int:
        return self.ok + self.bad + self.old_ok + self.old_bad + self.running + self.waiting

    @property
    def before(self) -> OnRecord | None:
        return None if self.stream else OnRecord(self.old_ok + self.old_bad, self.old_bad, self.ok + self.bad + self.running + self.waiting)

    @property
    def scheduler(self) -> Any:
        counts = Counts()
        counts.done, counts.failed = self.ok + self.bad, self.bad
        counts.skipped, counts.skipped_failed = self.old_ok + self.old_bad, self.old_bad
        return SimpleNamespace(counts=counts, left=self.running + self.waiting)


_few = st.integers(0, 3) | st.integers(0, 10**6)
mixes = st.builds(Mix, _few, _few, _few, _few, st.integers(0, 8), _few, st.booleans())


@settings(max_examples=60, deadline=None)
@given(mixes)
@example(Mix(2, 1, 0, 0, 0, 0, stream=False))
@example(Mix(0, 1, 0, 0, 0, 2, stream=False))
@example(Mix(0, 0, 0, 1, 0, 0, stream=False))
@example(Mix(0, 0, 1, 1, 0, 0, stream=True))
def test_numbers_add_up(mix: Mix) -> None:
    failed = mix.bad + mix.old_bad
    # while it goes
    tasks = account(mix.scheduler, mix.before, over=False)
    left = None if tasks.left is None else tasks.left - mix.running
    progress = Progress(tasks.done, tasks.failed, tasks.skipped, mix.running, left, tasks.finished, 8)
    known = mix.all - (mix.waiting if mix.stream else 0)
    painted = "\n".join(text for text, _ in Painter("utf-8", color=False).frame(progress, Times(1.0), 200, 24))
    picture = {"prefix": "run", "started": 1.0, "now": 2.0, **{name: getattr(progress, name) for name in _SHOWN}}
    for text in (plain_line(progress, Times(1.0)), painted, "\n".join(monitor.headlines(picture))):
        found = numbers(text)
        assert sum(found.values()) == known, text
        assert (found["done"], found.get("failed", 0)) == (mix.ok, failed), text
    # in the comment of its job
    total = None if mix.stream else mix.all
    text = text_of(tasks, total)
    found = numbers(text)
    assert (found["done"], found.get("failed", 0), found.get("skipped", 0)) == (mix.ok, failed, mix.old_ok)
    assert text.endswith(f" of {mix.all}") is not mix.stream
    assert OURS.fullmatch(text)
    # at its end
    tasks = account(mix.scheduler, mix.before, over=True)
    code = ExitCode.STOPPED if tasks.left else ExitCode.OK
    ending = Ending(
        code, tasks.done, tasks.skipped, tasks.failed, tasks.left or 0, tasks.finished, 0, 1.0, "run_status.txt", [], 0, None, "", ""
    )
    lines = summary_lines(ending)
    if mix.all:
        found = numbers(lines[0])
        assert sum(found.values()) == mix.all, lines[0]
        assert (found.get("failed", 0), found.get("not run", 0)) == (failed, mix.running + mix.waiting)
        assert any("exit code 0; -e counts failures" in line for line in lines) is (code == ExitCode.OK and failed > 0)
    # and later, from its files
    with files_of(tasks.counts(mix.bad)) as prefix:
        said = "\n".join(monitor.headlines(replay.from_files(prefix, alive=False)))
        assert sum(numbers(said).values()) == mix.all, said
        assert numbers(said)["failed"] == failed


_SHOWN = ("done", "failed", "skipped", "running", "left")


@contextmanager
def files_of(counts: dict[str, int]) -> Iterator[Path]:
    with TemporaryDirectory() as folder:
        prefix = Path(folder, "run")
        run = sidecar.Sidecar(
            "r1", "0", [], "/", "run_status.txt", [], {}, "host", 1, "b", 1.0, stream_complete=True, ended=2.0, exit_code=0, counts=counts
        )
        Path(folder, "run_run.json").write_text(
            json.dumps({"v": 1, **{k: v for k, v in vars_of(run).items() if v is not None}}), encoding="ascii"
        )
        yield prefix


def vars_of(run: sidecar.Sidecar) -> dict[str, Any]:
    return {name: getattr(run, name) for name in run.__dataclass_fields__ if name != "extra"}


@given(st.dictionaries(st.sampled_from(["run", "retry", "skip", "failed", "left"]), st.integers(1, 10**6)))
@settings(max_examples=30, deadline=None)
def test_numbers_of_a_dry_run_add_up(counts: dict[str, int]) -> None:
    text = dry_run.summary(cast("Any", {name: counts.get(name, 0) for name in ("run", "retry", "skip", "failed", "left")}), "")
    assert sum(numbers(text).values()) == sum(counts.values()), text
