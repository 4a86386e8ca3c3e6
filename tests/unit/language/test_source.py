"""Files and streams."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskrun.errors import Refused
from taskrun.language.items import Barrier, Lines, PerEngine, Prefix
from taskrun.language.source import read_items, scan, scan_file

TEXT = b"#PERENGINE START a\n#PREFIX p/\nx\n# y\nz\n#BARRIER\n#BARRIER CHECK\n#REPEAT 1000000000000 w\nlast"


def test_a_scan_keeps_what_a_run_must_know(tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_bytes(TEXT)
    found = scan_file(path)
    assert found._replace(end=None) == scan(io.BytesIO(TEXT), str(path))._replace(end=None, judge=found.judge)  # type: ignore[arg-type]
    assert (found.name, found.diagnostics, found.errors, found.warnings) == (str(path), [], 0, 0)
    assert (found.lines, found.tasks, found.barriers) == (9, 10**12 + 3, 2)
    assert found.perengine == [PerEngine(1, "START", b"a")]
    assert (found.size, found.sha256) == (len(TEXT), hashlib.sha256(TEXT).hexdigest())


def test_an_empty_file_is_no_problem() -> None:
    found = scan(io.BytesIO(b""), "-")
    assert (found.lines, found.tasks, found.errors, found.size) == (0, 0, 0, 0)
    assert list(read_items("/dev/null")) == []


def test_a_file_longer_than_a_piece(tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_bytes(b"x" * 3_000_000 + b"\n" + b"echo 12345\n" * 300_000 + b"#TASKRUN BARRIER\n")
    assert (scan_file(path).lines, scan_file(path).tasks) == (300_002, 300_001)
    items = list(read_items(path))
    assert sum(item.tasks for item in items if isinstance(item, Lines)) == 300_001
    assert isinstance(items[-1], Barrier)
    assert items[-1].line == 300_002


def test_items_of_a_stream_come_as_soon_as_they_are_there() -> None:
    source, sink = os.pipe()
    with os.fdopen(source, "rb") as stream:
        items = read_items(stream)
        os.write(sink, b"#PREFIX x\nfirst\nsec")
        assert next(items) == Prefix(1, b"x")
        assert next(items) == Lines(2, b"first", 1)
        os.write(sink, b"ond")
        os.close(sink)
        assert list(items) == [Lines(3, b"second", 1)]


def test_an_error_found_while_reading_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_bytes(b"x\n#TASKRUN X\n")
    with pytest.raises(Refused) as error:
        list(read_items(path))
    assert str(error.value).startswith(f"{path}:2:10: error: unknown directive `X`\n  2 | #TASKRUN X\n")


@pytest.mark.parametrize("read", [scan_file, lambda path: list(read_items(path))])
def test_what_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tasks.txt").write_bytes(b"x")
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    for name, message in [
        ("task.txt", "task.txt: no such file; did you mean tasks.txt?"),
        ("other", "other: no such file"),
        ("no/where", "no/where: no such file"),
        ("folder", "folder: is a folder, not a task file"),
        ("loop", "loop: cannot be read: too many levels of symbolic links"),
        ("tasks.txt/x", "tasks.txt/x: cannot be read: not a directory"),
        ("a\0b", r"a\x00b: cannot be read: embedded null byte"),
    ]:
        with pytest.raises(Refused) as error:
            read(name)
        assert str(error.value) == message


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    """Root may read every file: then the scan runs as somebody who may not."""
    path = tmp_path / "tasks.txt"
    path.touch(mode=0)
    program = f"""
import os, sys
from taskrun.language.source import scan_file
from taskrun.errors import Refused
folder = os.open({str(tmp_path)!r}, os.O_RDONLY)
os.fchdir(folder)
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    scan_file("tasks.txt")
except Refused as error:
    print(error)
"""
    tmp_path.chmod(0o755)
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.endswith("cannot be read: permission denied\n")


def test_an_error_of_the_stream_is_refused() -> None:
    class Broken(io.RawIOBase):
        def readinto(self, _buffer: object) -> int:
            raise OSError(5, "Input/output error")

    with pytest.raises(Refused, match=r"^-: cannot be read: input/output error$"):
        scan(Broken(), "-")
