"""A run that is killed and resumed until it is done, and what must be true of it whatever was killed when.

Each task holds a lock while it runs, as do its children, and notes its start and its end: a second copy at the same time is found out.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from harness import Record, Result, Running, Taskrun, until

#: What a task does; $1 is how long it takes.
TASK = """\
set -u
id=$TASKRUN_TASKID
note() { printf '%s %s %s\\n' "$1" "$id" "$TASKRUN_ATTEMPT" >> notes; }
exec 8>> "locks/$id"
flock -n 8 || note overlap
note start
sleep "$1"
note end
"""


def alive(taskrun: Taskrun) -> dict[int, str]:
    """The live processes of this test's runs; the dead that nobody has waited for are none."""
    return {pid: line for pid, line in taskrun.processes().items() if line}


def command_lines(taskrun: Taskrun, *words: str) -> list[int]:
    """Processes of this test's runs whose command line has all these words."""
    return [pid for pid, line in taskrun.processes().items() if all(word in line for word in words)]


def children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


@dataclass
class Chain:
    """`tasks` tasks of about `length` seconds, run and resumed in one folder."""

    taskrun: Taskrun
    tasks: int
    length: float
    flags: tuple[str, ...] = ("-s", "localhost:4")
    runs: int = 0
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder = self.taskrun.folder
        (self.folder / "locks").mkdir()
        self.taskrun.write({"task.sh": TASK, "tasks.txt": f"#TASKRUN REPEAT {self.tasks} exec bash task.sh {self.length}\n", "notes": ""})

    @property
    def prefix(self) -> str:
        return f"run{self.runs}"

    def start(self) -> Running:
        """The first run, or a resume from the newest."""
        self.runs += 1
        again = ("-r", f"run{self.runs - 1}_status.txt") if self.runs > 1 else ("tasks.txt", *self.flags)
        return self.taskrun.start(*again, "-p", self.prefix)

    def recorded(self) -> int:
        """Lines the newest status file has now."""
        try:
            return (self.folder / f"{self.prefix}_status.txt").read_bytes().count(b"\n")
        except FileNotFoundError:
            return 0

    def notes(self) -> list[list[str]]:
        return [line.split() for line in (self.folder / "notes").read_text().splitlines()]

    def nothing_is_left(self, seconds: float = 5.0) -> None:
        """No process, socket or temporary file of the run, soon after."""
        temporary = Path(self.taskrun.env["TMPDIR"])
        until(lambda: not alive(self.taskrun) and not list(temporary.iterdir()), seconds,
              f"the run to be gone: {alive(self.taskrun)} {list(temporary.iterdir())}")  # fmt: skip

    def finish(self, running: Running, timeout: float = 40.0) -> Result:
        result = running.finish(timeout)
        self.results.append(result)
        return result

    def check(self) -> None:
        """Nothing lost, nothing recorded runs again, nothing overlaps itself, and the status files are true."""
        notes = self.notes()
        assert not [note for note in notes if note[0] == "overlap"], "a task ran twice at the same time"
        chain: dict[int, Record] = {}
        final: Counter[int] = Counter()
        for number in range(1, self.runs + 1):
            path = self.folder / f"run{number}_status.txt"
            if not path.exists():
                continue
            for record in Result(0, "", "", self.folder, f"run{number}").records():
                if record["Flags"][3] == "S":
                    assert record["TaskID"] in chain, "an S line repeats a record"
                else:
                    final[record["TaskID"]] += 1
                chain[record["TaskID"]] = record
        assert sorted(chain) == list(range(self.tasks)), "nothing is lost"
        assert set(final.values()) == {1}, f"one record for each: {[each for each in final.items() if each[1] != 1]}"
        failed = [record for record in chain.values() if record["ReturnCode"]]
        assert not failed, failed
        ended = Counter(note[1] for note in notes if note[0] == "end")
        assert set(ended) == {str(n) for n in range(self.tasks)}, "a record without a task that ran to its end"
        # Nothing that has a record starts again: its last start is that of the attempt on record.
        last = {note[1]: note[2] for note in notes if note[0] == "start"}
        ends = {note[1]: note[2] for note in notes if note[0] == "end"}
        assert last == ends


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
