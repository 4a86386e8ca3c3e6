"""The real disBatch resumes our status file, and we resume what it then writes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from taskrun.model import NO_REPEAT, Barrier, Result, Task
from taskrun.planning.resume import Resume
from taskrun.status.reader import StatusIndex
from taskrun.status.record import barrier_line, skipped_line, task_line
from taskrun.status.writer import StatusWriter

RESULT = Result("task", 0, 1, "ok", 0, 4711, 0, 1795167236.462, 1795167236.469, 0.007, 0.0, 0.0, 0, 0, b"", 0, b"", False)


@pytest.mark.timeout(120)
def test_disbatch_resumes_ours_and_we_resume_disbatchs(tmp_path: Path) -> None:
    if importlib.util.find_spec("disbatch") is None:
        if os.environ.get("CI"):
            pytest.fail("disbatch is not installed, and in CI nothing is skipped")
        pytest.skip("disbatch is not installed")
    commands = [b"echo ran >> 0", b"echo ran >> 1; exit 3", "echo ä日\tran >> 2".encode(), b"echo ran \xe9 >> 3", b"echo ran >> 4 "]
    barrier = Barrier(5, 6, False, None, b"#DISBATCH BARRIER")
    (tmp_path / "tasks").write_bytes(
        b"\n".join([*commands, barrier.text, b"#DISBATCH REPEAT 2 start 4 step 3 echo ran >> r$DISBATCH_REPEAT_INDEX", b"echo ran >> new"])
        + b"\n"
    )
    tasks = [Task(i, i + 1, NO_REPEAT, command) for i, command in enumerate(commands)]
    tasks += [Task(6 + i, 7, 4 + 3 * i, b"echo ran >> r$DISBATCH_REPEAT_INDEX") for i in range(2)]
    lines = [
        task_line(tasks[0], RESULT, "vm"),
        task_line(tasks[1], RESULT._replace(cause="exit", code=3), "vm"),
        task_line(tasks[2], RESULT._replace(out_bytes=9, out="it's \"\t\0ä\x85".encode() + b"\xff", err_bytes=1, err=b"\n"), "vm"),
        task_line(tasks[3], RESULT, "vm"),
        task_line(tasks[4], RESULT, "vm"),
        task_line(tasks[5], RESULT, "vm"),
    ]
    writer = StatusWriter(tmp_path / "ours_status.txt", header=True)
    writer.write([*lines, barrier_line(barrier, "vm", 1, 1795167236.0, 1795167237.0)])
    writer.close()

    command = [sys.executable, "-m", "disbatch", "-s", "localhost:2", "-r", "ours_status.txt", "-p", "x", "tasks"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.read_bytes() == b"ran\n") == ["new", "r7"]

    theirs = tmp_path / "x_status.txt"
    written = theirs.read_bytes().splitlines(keepends=True)
    assert sorted(line for line in written if line[3:4] == b"S") == sorted(map(skipped_line, lines))
    with StatusIndex(theirs) as index:
        assert index.notes() == []
        resume = Resume([index])
        assert [resume.decide(task).action for task in tasks] == ["skip"] * 7
        assert [resume.decide(task).code for task in tasks] == [0, 3, 0, 0, 0, 0, 0]
        assert index.line(5) is None
        assert index.line(8) is not None
        assert Resume([index], retry=True).decide(tasks[1]).action == "retry"
