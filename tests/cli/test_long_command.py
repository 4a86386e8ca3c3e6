"""Commands longer than one argument of a program may be, and commands that cannot be started."""

from __future__ import annotations

import errno
import shlex
import sys

import pytest
from harness import Taskrun

LIMIT = 128 * 1024  # bytes of one argument with its NUL (Linux)


def padded(command: str, size: int) -> str:
    """`command` in exactly `size` bytes."""
    return command + " #" + "x" * (size - len(command) - 2)


@pytest.mark.parametrize("starter", ["parallel", "builtin"])
def test_long_commands_run_as_short_ones_do(taskrun: Taskrun, starter: str) -> None:
    look = 'echo "$0" "$-" "$#" "$BASHPID" "$SHLVL" > said_$TASKRUN_TASKID; false; exit $((40 + TASKRUN_TASKID))'
    sizes = (500, LIMIT - 2, LIMIT - 1, LIMIT, LIMIT + 1, 200_000, 1_500_000, 3_000_000)
    commands = [padded(look, size) for size in sizes]
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", "--starter", starter, files={"tasks.txt": "\n".join(commands)})
    assert result.code == 0, result.err[:1000]
    records = sorted(result.records(), key=lambda each: each["TaskID"])
    assert [each["ReturnCode"] for each in records] == [40 + n for n in range(len(sizes))]
    assert [each["Command"] for each in records] == commands
    said = [(taskrun.folder / f"said_{n}").read_text().split() for n in range(len(sizes))]
    for each, record in zip(said, records, strict=True):
        assert each[:3] == ["/bin/bash", "hBc", "0"]
        assert each[3] == str(record["PID"])
        assert each[4] == said[0][4]


def test_a_long_command_finds_nothing_unusual(taskrun: Taskrun) -> None:
    """Its text is read from a descriptor, which neither it nor its children have, and its stdin is empty."""
    task = "ls /proc/$$/fd > fds; ls /proc/self/fd > child_fds; cat > read; return 3 2> /dev/null; exit 4"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": padded(task, LIMIT + 100)})
    assert result.records()[0]["ReturnCode"] in (3, 4)
    assert set((taskrun.folder / "child_fds").read_text().split()) == {"0", "1", "2", "3"}  # 3 is ls's own
    assert (taskrun.folder / "read").read_bytes() == b""


def test_long_commands_of_any_bytes(taskrun: Taskrun) -> None:
    command = b"printf %s '" + bytes(range(128, 256)) * 2000 + "é'".encode() + b" | wc -c > size"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": command})
    assert result.records()[0]["ReturnCode"] == 0
    assert int((taskrun.folder / "size").read_text()) == 256002
    again = taskrun("tasks.txt", "-s", "localhost:1", "-r", "run_status.txt", "-p", "two")
    assert (again.code, again.records()[0]["Flags"]) == (0, "   S"), again.err[:500]


def test_the_environment_and_the_command_together_are_too_long(taskrun: Taskrun) -> None:
    """With a small stack the system takes 128 KiB in all: the remedy for long commands does not help against a large environment."""
    shell = Taskrun(taskrun.folder, taskrun.env, command=("/bin/bash", "-c"))
    setup = "for n in 0 1 2 3 4 5; do export LARGE_$n=$(head -c 100000 /dev/zero | tr '\\0' x); done"
    words = f"{setup}; exec {shlex.quote(sys.executable)} -m taskrun tasks.txt -s localhost:1 -p run"
    result = shell(words, files={"tasks.txt": "ulimit -s 256; /bin/true\n" + padded("echo $LARGE_5 | wc -c > size", LIMIT + 5)})
    shell.close()
    assert result.code == 0, result.err
    first, second = (line.split("\t") for line in (taskrun.folder / "run_status.txt").read_text().splitlines())
    assert (first[6], "too long" in first[13]) == ("126", True)
    assert second[6] == "0"
    assert (taskrun.folder / "size").read_text() == "100001\n"


def test_a_working_directory_that_is_gone_is_each_task_s_failure(taskrun: Taskrun) -> None:
    folder = taskrun.folder / "work"
    folder.mkdir()
    (folder / "tasks.txt").write_text("rm -r ../work; true\ntrue\n")
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", str(taskrun.folder / "run"), cwd=folder)
    assert result.code == 0, result.err
    first, second = result.records(str(taskrun.folder / "run"))
    assert (first["TaskID"], first["ReturnCode"]) == (0, 0)
    assert (second["ReturnCode"], second["PID"], second["Flags"]) == (errno.ENOENT, -1, "R E ")
    assert "the working directory is gone" in second["ErrorSnippet"]
    assert [each["cause"] for each in result.events("attempt", prefix=str(taskrun.folder / "run"))] == ["ok", "start"]


def test_a_nul_byte_is_refused_before_the_first_task(taskrun: Taskrun) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": b"touch ran\ntrue \0 x\n"})
    assert result.code == 2
    assert "tasks.txt:2:6: error: " in result.err
    assert not (taskrun.folder / "ran").exists()


def test_a_line_too_long_for_anything(taskrun: Taskrun) -> None:
    """A line that is no command (a binary file?) is refused before the first task, not a hang."""
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": "touch ran\ntrue " + "x" * (66 << 20) + "\n"})
    assert result.code == 2
    assert result.err.startswith("tasks.txt:2:")
    assert len(result.err) < 2000
    assert not (taskrun.folder / "ran").exists()
