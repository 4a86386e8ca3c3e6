"""What a resume costs before the first task: a status file of a million records is indexed, and each task of the new run decided.

    python benchmarks/resume.py [RECORDS]

Prints the time to index, the memory that the index took, and the time per decision (tasks in order, and in random order); then the same as
a user has it: the whole command, all but ten tasks on record, found by id and by command, with its peak memory.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from taskrun.model import NO_REPEAT, Result, Task
from taskrun.planning.resume import Resume
from taskrun.status.reader import StatusIndex
from taskrun.status.record import task_line

MIB = 1 << 20


def task(number: int) -> Task:
    return Task(number, number + 1, NO_REPEAT, b"/bin/true %d > /dev/null" % number)


def result(number: int) -> Result:
    start = 1795167236.462 + number / 1000
    code = int(number % 100 == 0)
    return Result("task", number, 1, "exit" if code else "ok", code, 4711, 3, start, start + 0.007, 0.007, 0.01, 0.002, 3 * MIB,
                  0, b"", 0, b"", False)  # fmt: skip


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096


def main(records: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole_command(Path(folder), records)  # first: a child's peak is at least what its parent has when it starts it
        path = Path(folder) / "big_status.txt"
        ids = list(range(records))
        for at in range(0, records, 64):  # records come in the order in which tasks end
            ids[at : at + 64] = random.sample(ids[at : at + 64], len(ids[at : at + 64]))
        begun = time.perf_counter()
        with path.open("wb") as file:
            file.writelines(task_line(task(i), result(i), "node01") for i in ids)
        print(f"{records} records, {path.stat().st_size / MIB:.0f} MiB, made in {time.perf_counter() - begun:.1f} s")
        del ids

        before = resident()
        begun = time.perf_counter()
        index = StatusIndex(path)
        print(f"index: {time.perf_counter() - begun:.2f} s, {(resident() - before) / MIB:.1f} MiB more resident, {len(index)} tasks")

        for name, order in (("in order", range(records)), ("random", random.sample(range(records), min(records, 100_000)))):
            tasks = [task(i) for i in order[:100_000]]
            resume = Resume([index], retry=True)
            begun = time.perf_counter()
            for one in tasks:
                resume.decide(one)
            print(f"decide, {name}: {(time.perf_counter() - begun) / len(tasks) * 1e6:.2f} us a task")


def whole_command(folder: Path, records: int) -> None:
    left = set(random.sample(range(records), min(10, records)))
    with (folder / "tasks.txt").open("wb") as file:
        file.writelines(task(number).command + b"\n" for number in range(records))
    with (folder / "old_status.txt").open("wb") as file:
        file.writelines(task_line(task(i), result(i), "node01") for i in range(records) if i not in left)
    for match in ("id", "command"):
        command = [
            sys.executable,
            "-m",
            "taskrun",
            "tasks.txt",
            "-r",
            "old_status.txt",
            "-s",
            "localhost:2",
            "-q",
            "-p",
            match,
            "--match",
            match,
        ]
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        assert os.waitstatus_to_exitcode(status) == 0
        lines = (folder / f"{match}_status.txt").read_bytes().count(b"\n")
        print(f"taskrun -r, --match {match}: {seconds:.1f} s, {usage.ru_utime + usage.ru_stime:.1f} s of CPU, "
              f"peak {usage.ru_maxrss / 1024:.0f} MiB, {lines} records written")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
