"""The status file as it is written: whole lines only, durable, and nothing lost when the disk says no."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from harness import until

from taskrun.errors import ExitCode, RecordsFailed, Refused
from taskrun.status import linefile
from taskrun.status.reader import StatusIndex
from taskrun.status.record import HEADER
from taskrun.status.rescue import Unwritten
from taskrun.status.writer import StatusWriter


def record(number: int, command: bytes = b"true") -> bytes:
    return b"    \t%d\t%d\t-1\tvm\t1\t0\t0.001\t1.000\t1.001\t0\t''\t0\t''\t%s\n" % (number, number + 1, command)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x_status.txt"


def fails(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_batches_are_appended(path: Path) -> None:
    writer = StatusWriter(path)
    writer.write([record(0), record(1)])
    writer.write([])
    writer.write(iter([record(2)]))
    assert path.read_bytes() == record(0) + record(1) + record(2)
    writer.close()
    writer.close()
    assert writer.torn == b""
    with pytest.raises(ValueError, match="before the file is closed"):
        writer.write([record(3)])


def test_half_a_line_is_a_bug_of_the_caller(path: Path) -> None:
    writer = StatusWriter(path)
    with pytest.raises(ValueError, match="whole lines"):
        writer.write([b"half"])
    writer.close()
    assert path.read_bytes() == b""


def test_a_header_only_in_a_new_file(path: Path) -> None:
    StatusWriter(path, header=True).close()
    assert path.read_bytes() == HEADER
    writer = StatusWriter(path, header=True, append=True)
    writer.write([record(0)])
    writer.close()
    assert path.read_bytes() == HEADER + record(0)


def test_an_existing_file_is_never_truncated(path: Path) -> None:
    path.write_bytes(record(0))
    with pytest.raises(Refused, match=r"x_status.txt exists already: .*-r.*--append"):
        StatusWriter(path)
    assert path.read_bytes() == record(0)


def test_append_makes_a_file_that_is_absent(path: Path) -> None:
    StatusWriter(path, append=True).close()
    assert path.read_bytes() == b""


@pytest.mark.parametrize("kind", ["no folder", "folder", "fifo", "device"])
def test_what_cannot_be_written_to_is_refused(tmp_path: Path, kind: str) -> None:
    path = {"no folder": tmp_path / "no" / "x", "folder": tmp_path, "fifo": tmp_path / "fifo", "device": Path("/dev/null")}[kind]
    if kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(Refused, match=r"cannot be opened|not a regular file"):
        StatusWriter(path, append=True)


def test_a_torn_last_line_is_cut_off_and_kept(path: Path) -> None:
    long = record(1, b"x" * 200_000)[:-1]
    path.write_bytes(record(0) + long)
    writer = StatusWriter(path, append=True)
    assert writer.torn == long
    writer.write([record(2)])
    writer.close()
    assert path.read_bytes() == record(0) + record(2)


def test_only_a_torn_line(path: Path) -> None:
    path.write_bytes(record(0)[:7] + b"\0" * 100)
    writer = StatusWriter(path, header=True, append=True)
    writer.close()
    assert path.read_bytes() == HEADER


def test_a_file_that_is_something_else_is_not_cut(path: Path) -> None:
    path.write_bytes(b"my thesis, no newline at its end")
    with pytest.raises(Refused, match="no part of a record"):
        StatusWriter(path, append=True)
    assert path.read_bytes() == b"my thesis, no newline at its end"


def test_short_writes_are_finished(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(linefile.os, "write", lambda fd, data: real(fd, data[:7]))
    writer = StatusWriter(path)
    writer.write([record(0), record(1)])
    writer.close()
    assert path.read_bytes() == record(0) + record(1)


FULL = """
import os, resource, sys
from pathlib import Path
from taskrun.status.rescue import Unwritten
from taskrun.status.writer import StatusWriter
line = b"    \\t%d\\t1\\t-1\\tvm\\t1\\t0\\t0.001\\t1.000\\t1.001\\t0\\t''\\t0\\t''\\ttrue\\n"
writer = StatusWriter(Path(sys.argv[1]))
writer.write([line % 0])
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    writer.write([line % i for i in range(1, 9)])
except Unwritten as error:
    print(error, len(error.lines), sep="\\n")
else:
    sys.exit("it was written")
try:
    writer.close()
except Unwritten as error:
    print(len(error.lines))
"""


def full(path: Path, limit: int) -> list[str]:
    done = subprocess.run([sys.executable, "-c", FULL, path, str(limit)], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def ids(path: Path) -> list[int]:
    with StatusIndex(path) as index:
        assert index.notes() == []
        return [i for i in range(9) if index.line(i)]


def test_a_disk_that_fills_up_leaves_whole_records_and_saves_the_rest_beside(path: Path) -> None:
    sentence, left, again = full(path, 5 * len(record(0)) + 10)
    assert sentence == (
        f"{path} cannot be written: File too large; 4 lines are saved in {path}.unwritten, "
        "to be given with -r as well when this run is resumed"
    )
    assert (left, again) == ("0", "0")
    assert ids(path) == [0, 1, 2, 3, 4]
    assert ids(Path(f"{path}.unwritten")) == [5, 6, 7, 8]


def test_what_does_not_fit_beside_goes_on_to_the_next_place(path: Path) -> None:
    sentence, left, _ = full(path, 2 * len(record(0)) + 10)
    (elsewhere,) = Path(tempfile.gettempdir()).iterdir()
    assert sentence == (
        f"{path} cannot be written: File too large; 4 lines are saved in {path}.unwritten and {elsewhere}, "
        "to be given with -r as well when this run is resumed; 3 lines are saved nowhere"
    )
    assert left == "3"
    assert (ids(path), ids(Path(f"{path}.unwritten")), ids(elsewhere)) == ([0, 1], [2, 3], [4, 5])
    elsewhere.unlink()


def test_what_is_saved_nowhere_is_handed_to_the_driver(path: Path) -> None:
    sentence, left, again = full(path, len(record(0)) // 2)
    assert sentence == f"{path} cannot be written: File too large; 8 lines are saved nowhere"
    assert (left, again) == ("8", "0")
    assert path.read_bytes() == record(0)
    assert [name.name for name in path.parent.iterdir()] == [path.name]


def test_saved_in_the_folder_for_temporary_files_when_beside_is_impossible(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(f"{path}.unwritten").mkdir()
    writer = StatusWriter(path)
    monkeypatch.setattr(linefile.os, "ftruncate", lambda *_: None)
    real = os.write
    monkeypatch.setattr(linefile.os, "write", lambda fd, data: fails() if fd == writer._fd else real(fd, data))
    with pytest.raises(Unwritten) as raised:
        writer.write([record(0)])
    (saved,) = raised.value.saved
    assert saved.parent == Path(tempfile.gettempdir())
    assert saved.read_bytes() == record(0)
    saved.unlink()
    with pytest.raises(Unwritten):
        writer.close()


def test_after_a_failure_nothing_more_goes_to_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StatusWriter(path)
    with monkeypatch.context() as broken:
        real = os.write
        broken.setattr(linefile.os, "write", lambda fd, data: fails() if fd == writer._fd else real(fd, data))
        with pytest.raises(RecordsFailed) as raised:
            writer.write([record(0)])
        assert raised.value.exit_code is ExitCode.RECORDS
    with pytest.raises(RecordsFailed, match="takes no more lines"):
        writer.write([record(1)])
    with pytest.raises(RecordsFailed, match="Input/output error"):
        writer.close()
    assert path.read_bytes() == b""
    assert Path(f"{path}.unwritten").read_bytes() == record(0) + record(1)


def test_fsync_comes_within_a_second(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StatusWriter(path)
    synced = threading.Event()
    real = os.fsync
    monkeypatch.setattr(linefile.os, "fsync", lambda fd: (real(fd), synced.set() if fd == writer._fd else None))
    writer.write([record(0)])
    assert synced.wait(1.0)
    synced.clear()
    writer.write([record(1)])
    assert synced.wait(1.0)
    writer.close()


def test_a_failing_fsync_saves_what_was_not_durable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[RecordsFailed] = []
    writer = StatusWriter(path, on_error=told.append, sync_seconds=0.05)
    synced = threading.Event()
    real = os.fsync
    monkeypatch.setattr(linefile.os, "fsync", lambda fd: (real(fd), synced.set()))
    writer.write([record(0)])
    assert synced.wait(5)
    monkeypatch.setattr(linefile.os, "fsync", lambda fd: fails() if fd == writer._fd else real(fd))
    writer.write([record(1)])
    until(lambda: told)
    assert "could not be made durable: Input/output error; 1 line is saved in" in str(told[0])
    assert Path(f"{path}.unwritten").read_bytes() == record(1)
    monkeypatch.undo()
    with pytest.raises(Unwritten, match="could not be made durable") as raised:
        writer.close()
    assert raised.value.lines == ()
    assert len(told) == 1


def test_a_failure_only_the_last_fsync_sees(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StatusWriter(path, sync_seconds=60)
    writer.write([record(0)])
    real = os.fsync
    monkeypatch.setattr(linefile.os, "fsync", lambda fd: fails() if fd == writer._fd else real(fd))
    with pytest.raises(Unwritten, match="could not be made durable"):
        writer.close()
    assert Path(f"{path}.unwritten").read_bytes() == record(0)


def test_lines_that_nothing_takes_at_the_last_fsync_are_in_the_error(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StatusWriter(path, sync_seconds=60)
    writer.write([record(0), record(1)])
    monkeypatch.setattr(linefile.os, "fsync", fails)
    with pytest.raises(Unwritten, match="2 lines are saved nowhere") as raised:
        writer.close()
    assert raised.value.lines == (record(0), record(1))


def test_a_deleted_file_is_noticed_and_all_of_it_is_saved(path: Path) -> None:
    told: list[RecordsFailed] = []
    writer = StatusWriter(path, header=True, on_error=told.append, sync_seconds=0.05)
    writer.write([record(0)])
    path.unlink()
    writer.write([record(1)])
    until(lambda: told)
    assert "was deleted while the run was writing to it; 3 lines are saved in" in str(told[0])
    with pytest.raises(RecordsFailed, match="was deleted"):
        writer.close()
    assert Path(f"{path}.unwritten").read_bytes() == HEADER + record(0) + record(1)


def test_a_file_deleted_just_before_the_end_is_noticed_at_close(path: Path) -> None:
    writer = StatusWriter(path, sync_seconds=60)
    writer.write([record(0)])
    path.unlink()
    with pytest.raises(RecordsFailed, match="was deleted"):
        writer.close()
    assert Path(f"{path}.unwritten").read_bytes() == record(0)


def test_a_file_that_someone_empties_is_noticed(path: Path) -> None:
    told: list[RecordsFailed] = []
    writer = StatusWriter(path, on_error=told.append, sync_seconds=0.05)
    writer.write([record(0)])
    os.truncate(path, 0)
    until(lambda: told)
    assert "was cut short by someone else while the run was writing to it: earlier lines are lost" in str(told[0])
    with pytest.raises(RecordsFailed, match="was cut short"):
        writer.close()


def test_a_renamed_file_goes_on(path: Path) -> None:
    writer = StatusWriter(path)
    writer.write([record(0)])
    moved = path.rename(path.with_name("moved"))
    writer.write([record(1)])
    writer.close()
    assert moved.read_bytes() == record(0) + record(1)


def test_a_header_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linefile.os, "write", fails)
    with pytest.raises(RecordsFailed, match="cannot be written"):
        StatusWriter(path, header=True)
