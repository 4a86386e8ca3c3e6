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
from typing import Any

from taskrun.agent import wire
from taskrun.cli.main import _main
from taskrun.driver.foreach import FileLists
from taskrun.engines import frames, invitation
from taskrun.engines.link import Link
from taskrun.errors import Refused
from taskrun.language.diagnostics import render_all
from taskrun.language.items import Foreach, Item, Lines
from taskrun.language.reader import Reader
from taskrun.language.source import scan
from taskrun.language.whole import parse_whole
from taskrun.model import Barrier, PerEngine, Result, Staging, Task
from taskrun.observers import monitor, replay
from taskrun.observers.monitor_view import MonitorView
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
    os.fchmod(fd, 0o600)  # else everybody could write to it, and it would not be believed
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
            if data.partition(b"\n")[0].endswith(b"\r"):  # lines may end in CRLF, and are given with LF
                data = data.replace(b"\r\n", b"\n")
                last = {number: line.replace(b"\r\n", b"\n") for number, line in last.items()}
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


def attach_file(data: bytes) -> None:
    """Refused, or where a run listens and what it knows: fit for connecting and for proving."""
    with as_file(data) as path:
        try:
            found = invitation.load(path)
        except Refused:
            return
    assert found.addresses
    assert all(host.isprintable() and 0 < port < 1 << 16 for host, port in found.addresses)
    assert (found.secret + found.control + found.run_id + found.fingerprint).isascii()


def events_file(data: bytes) -> None:
    """Assert that `monitor` shows text, whatever the events say."""
    fold = replay.Fold()
    for line in data.splitlines(keepends=True):
        fold.take(line)
    shown = {"prefix": "p", "started": 1.0, "ended": fold.last, "done": fold.finished, "failed": fold.failed, "waiting": fold.waiting,
             "stopping": fold.told, "contexts": list(fold.contexts.values()), "engines": list(fold.engines.values())}  # fmt: skip
    assert all(char == "\n" or char.isprintable() for char in monitor.text(shown))


def picture(value: dict[str, Any]) -> None:
    """Refused, or it can be shown as text and in the live view."""
    try:
        shown = monitor.checked(value)
    except Refused:
        return
    assert all(char == "\n" or char.isprintable() for char in monitor.text(shown))
    view = MonitorView("utf-8", color=False)
    view.show(shown)
    for key, (width, height) in zip(("down", "E", "n", "C", "y"), ((80, 24), (40, 10), (60, 8), (1, 1), (200, 4)), strict=True):
        lines = view.frame(width, height)
        assert len(lines) <= max(1, height - 1)
        assert all(cells <= max(1, width - 1) for _, cells in lines)
        view.key(key)
    assert len(monitor.text(shown, 40, 10).splitlines()) <= 10


def file_list(data: bytes) -> None:
    """Lists that are whole, of paths that the system could have given; the others are as if they had not been there."""
    with as_file(data) as path:
        lists = FileLists(path)
    try:
        number = lists.take(Foreach(1, b"d/*", b"{}", b""), b"{}")
        assert number == len(list(lists.paths(Foreach(1, b"d/*", b"{}", b""))))
    finally:
        lists.close()


def resumed(folder: Path, value: dict[str, Any], dry_run: bool) -> None:
    """`taskrun -r` with this sidecar of a run that has nothing left to do: one of its exit codes, whatever the sidecar says."""
    record = task_line(
        Task(0, 1, -1, b"true"), Result("task", 0, 1, "exit", 0, 9, 0, 1.0, 2.0, 1.0, 0.0, 0.0, 0, 0, b"", 0, b"", False), "vm"
    )
    (folder / "x_status.txt").write_bytes(record)
    (folder / "tasks.txt").write_bytes(b"true\n")
    (folder / "x_run.json").write_text(json.dumps(value))
    before = os.getcwd()  # noqa: PTH109
    said = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")
    try:
        os.chdir(folder)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            words = ["--dry-run"] if dry_run else ["-p", str(folder / "y"), "--use-address", "off"]
            assert _main(["-r", "x_status.txt", *words]) in (0, 2)
    finally:
        os.chdir(before)
        for path in folder.iterdir():
            path.unlink()


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
