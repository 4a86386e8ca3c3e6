"""What any bytes must survive: each function takes some, and raises only when something is wrong with taskrun.

The tests here call them with examples of hypothesis, the atheris_*.py scripts with what makes new code run.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

from taskrun.agent import wire
from taskrun.engines import frames
from taskrun.engines.link import Link
from taskrun.errors import Refused
from taskrun.language.diagnostics import render_all
from taskrun.language.items import Foreach, Item, Lines
from taskrun.language.reader import Reader
from taskrun.language.source import scan
from taskrun.language.whole import parse_whole
from taskrun.model import Barrier, PerEngine, Staging, Task
from taskrun.options import Options
from taskrun.planning.expand import Expander
from taskrun.planning.resume import Resume, mismatch_text
from taskrun.status import owner, sidecar
from taskrun.status.events import attempt_line
from taskrun.status.reader import StatusIndex
from taskrun.status.record import BadRecord, Record, skipped_line, task_line


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """In pieces of about `size`, one after the other."""
    for at in range(0, len(data), max(1, size)):
        yield data[at : at + max(1, size)]


# task files


def single(items: list[Item]) -> list[Item]:
    """Every task as a `Lines` of its own, as the whole-file parse gives them."""
    found: list[Item] = []
    for item in items:
        found += [Lines(line, text, 1) for line, text in item.commands()] if isinstance(item, Lines) else [item]
    return found


class Matches:
    """Each FOREACH finds the same files, of odd names."""

    NAMES = (b"plain", b"two words", b"it's", b"{}", b"-\xff$`\t")

    def take(self, item: Foreach, template: bytes) -> int:
        return len(self.NAMES)

    def paths(self, item: Foreach) -> Iterator[bytes]:
        return iter(self.NAMES)


def task_file(text: bytes, size: int, ignore_unknown: bool) -> None:
    """In pieces it means what it means whole; ids count from 0; what is wrong can be shown; `check` counts what would run."""
    reader = Reader("tasks.txt", ignore_unknown=ignore_unknown)
    items = [item for piece in pieces(text, size) for item in reader.feed(piece)] + reader.close()
    whole = parse_whole(text, ignore_unknown=ignore_unknown)
    assert single(items) == whole.items
    assert reader.diagnostics == whole.diagnostics
    shown = render_all(reader.diagnostics, "tasks.txt", reader.errors, reader.warnings)
    assert all(char == "\n" or char.isprintable() for char in shown)
    result = scan(io.BytesIO(text), "tasks.txt", ignore_unknown=ignore_unknown)
    assert (result.errors, result.warnings, result.diagnostics) == (reader.errors, reader.warnings, reader.diagnostics)
    expander = Expander(Matches())
    tasks = barriers = 0
    for item in items:
        before = expander.next_id
        for number, planned in enumerate(expander.expand(item), before):
            if isinstance(planned, PerEngine | Staging):
                continue
            assert isinstance(planned, Task | Barrier)
            assert planned.id == number
            if number - before > 20:  # of a REPEAT of a million
                break
            if isinstance(planned, Task):
                assert b"\n" not in planned.command
                assert b"\0" not in planned.command
                assert all(each.scope == "TASK" for each in planned.staging)
        barriers += type(item).__name__ == "Barrier"
        if not isinstance(item, Foreach):  # its files are counted when it runs
            tasks += expander.next_id - before
    assert (result.tasks + result.barriers, result.barriers) == (tasks, barriers)


# files of a run


@contextlib.contextmanager
def as_file(data: bytes) -> Iterator[Path]:
    """A regular file with these bytes, in memory."""
    fd = os.memfd_create("fuzz")
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def status_file(data: bytes) -> None:
    """Refused, or an index of what the last whole line of each task says; each task is run, skipped, run again or not recognised."""
    last: dict[int, bytes] = {}
    for line in data.split(b"\n")[:-1]:
        with contextlib.suppress(BadRecord):
            record = Record.parse(line + b"\n")
            if len(record.flags) == 4 and record.flags[3] != "P":
                last[record.id] = line + b"\n"
                assert Record.parse(skipped_line(line + b"\n")).flags[3] == "S"
    with as_file(data) as path:
        try:
            index = StatusIndex(path)
        except Refused:
            return
        with index:
            index.notes()
            for number, line in last.items():
                found = index.line(number)
                assert found is not None
                assert found == line or data.rindex(found) > data.index(line)  # a later line with an escape no record has
            resumes = [Resume([index]), Resume([index], retry=True), Resume([index], force=True)]
            for number in [*list(last)[:20], 0, 1, 2, 10**18]:
                for resume in resumes:
                    decision = resume.decide(Task(number, 1, -1, b"x"))
                    assert decision.reason
                    if decision.action == "mismatch":
                        mismatch_text([decision])
                    elif decision.action == "skip":
                        assert decision.skipped().record.endswith(b"\n")


def sidecar_file(data: bytes) -> None:
    """Refused, or the sidecar of a run whose options can be taken over."""
    with as_file(data) as path:
        try:
            found = sidecar.load(path)
            Options().inherit(found.options)
        except Refused:
            return
    for name in (found.cwd, found.status, *found.resumed_from, *([found.task_file.path] if found.task_file else [])):
        assert b"\0" not in os.fsencode(name)


def lock_file(data: bytes) -> None:
    """Nobody's, or somebody's of whom it can be said whether he lives."""
    found = owner.from_json(data)
    if found is not None:
        assert owner.life_of(found) in ("alive", "dead", "unknown")


# links


def link_bytes(data: bytes, size: int) -> None:
    """Frames or BadFrame; a frame is a message or BadFrame; a message can be kept on record."""
    decoder = wire.Decoder()
    with contextlib.suppress(wire.BadFrame):
        for piece in pieces(data, size):
            for frame in decoder.feed(piece):
                message(frame)


def whole_link(data: bytes, size: int) -> None:
    """The same through a link, with a login shell's noise in front."""
    read_fd, feed = os.pipe()
    back, write_fd = os.pipe()
    link = Link(read_fd, write_fd)
    try:
        with contextlib.suppress(wire.BadFrame):
            for piece in pieces(data[:60000], size):
                os.write(feed, piece)
                for frame in link.read() or []:
                    message(frame)
            os.close(feed)
            feed = -1
            while (received := link.read()) is not None:
                for frame in received:
                    message(frame)
    finally:
        link.close()
        for fd in (feed, back):
            if fd >= 0:
                os.close(fd)


def message(frame: dict[str, object]) -> None:
    said = frames.message_of(frame)
    if isinstance(said, frames.Done):
        for result in said.results:
            line = task_line(Task(result.id, 1, -1, b"true"), result, "node")
            assert Record.parse(line).code == result.code
            assert json.loads(attempt_line(result, "node_0", 0.0))["id"] == result.id
    elif isinstance(said, frames.Note):
        assert said.text.isprintable()
        assert len(said.text) < 10 * frames.SENTENCE
