"""What the tests run taskrun with: the real command, in a folder of its own, in an environment that is written down here.

A test asks for the fixture `taskrun` (tests/conftest.py):

    def test_a_failed_task_is_recorded(taskrun):
        result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "run", files={"tasks.txt": "exit 3\n"})
        assert result.code == 0
        assert [record["ReturnCode"] for record in result.records()] == [3]

`taskrun.start(...)` returns at once, for signals and kills; `.finish()` gives the same Result.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any, NoReturn, TypeVar

import pytest

ROOT = Path(__file__).resolve().parent.parent  # the checkout

#: Every process of a test carries this variable with a value of its own, so that what a test leaves behind is found.
#: The name does not begin with TASKRUN_: a run may take those out of its tasks' environment.
MARK = "TEST_OF_TASKRUN"

#: The columns of a status file: the first is called `ROE[ PSZ]` in its header line.
COLUMNS = (
    "Flags", "TaskID", "LineNum", "RepeatIndex", "Node", "PID", "ReturnCode", "Elapsed", "Start", "Finish",
    "BytesOfLeakedOutput", "OutputSnippet", "BytesOfLeakedError", "ErrorSnippet", "Command",
)  # fmt: skip
_NUMBERS = {"TaskID", "LineNum", "RepeatIndex", "PID", "ReturnCode", "BytesOfLeakedOutput", "BytesOfLeakedError"}
_TIMES = {"Elapsed", "Start", "Finish"}

Record = dict[str, Any]
Answer = TypeVar("Answer")


def need(program: str) -> str:
    """The path of a program that a test cannot do without. Where it is missing: skipped on a laptop, failed in CI."""
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    return path or cannot(f"{program} is not installed")


def cannot(told: str) -> NoReturn:
    """Something is missing here that a test needs: skipped on a laptop, failed in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{told}, and in CI nothing is skipped")
    pytest.skip(told)


def until(condition: Callable[[], Answer], seconds: float = 10.0, what: str = "it") -> Answer:
    """The first true answer of `condition`; the test fails when there is none in time. In CI it waits longer: nobody sits there."""
    end = time.monotonic() + seconds * (3 if os.environ.get("CI") else 1)
    while not (answer := condition()):
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:g} s for {what}, in vain")
        time.sleep(0.01)
    return answer


def read_status(path: Path) -> list[Record]:
    """The records of a status file in the order of the file. Written apart from taskrun's own reader, on purpose."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    lines = text.split("\n")  # and nothing else ends a line
    assert lines.pop() == "", f"{path.name}: the last line has no newline"
    records = []
    for line in lines:
        fields = line.split("\t", len(COLUMNS) - 1)
        assert len(fields) == len(COLUMNS), f"{path.name}: {len(fields)} columns in {line!r}"
        if fields[0] == "ROE[ PSZ]":
            continue
        records.append(
            {
                name: int(value) if name in _NUMBERS else float(value) if name in _TIMES else value
                for name, value in zip(COLUMNS, fields, strict=True)
            }
        )
    return records


def processes(mark: str) -> dict[int, str]:
    """pid → command line of the live processes that carry a test's mark (this one excepted)."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            if wanted not in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                continue
            argv = Path(f"/proc/{entry}/cmdline").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        found[int(entry)] = argv.replace(b"\0", b" ").decode("utf-8", "replace").strip()
    return found


def kill(pids: Mapping[int, str]) -> None:
    """Ends processes that carry a test's mark, one by one."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@cache
def path_without_slurm() -> str:
    """PATH as it is here, but a folder that has sbatch is replaced by links to all it holds but SLURM's commands."""
    hidden = {"sbatch", "salloc", "srun", "scontrol", "squeue", "sinfo", "scancel", "sacct"}
    folders: dict[str, str] = {}  # by what they really are: /bin is /usr/bin
    for folder in os.environ.get("PATH", os.defpath).split(":"):
        real = os.path.realpath(folder)
        if not Path(folder, "sbatch").exists():
            folders.setdefault(real, folder)
        elif real not in folders:
            folders[real] = tempfile.mkdtemp(prefix="path-", dir=session_folder())
            for name in set(os.listdir(folder)) - hidden:
                os.symlink(f"{folder}/{name}", f"{folders[real]}/{name}")  # noqa: PTH211 - thousands of them
    return ":".join(folders.values())


@cache
def session_folder() -> Path:
    """A folder for what all tests of this process share; tests/conftest.py removes it at the end."""
    memory = "/dev/shm"  # a thousand links cost a second on some disks, and a millisecond there
    return Path(tempfile.mkdtemp(prefix="taskrun-tests-", dir=memory if os.access(memory, os.W_OK) else None))


def environment(home: Path, **more: str) -> dict[str, str]:
    """All that taskrun sees of its surroundings in a test: nothing of SLURM, disBatch, GNU Parallel or an outer taskrun."""
    user = pwd.getpwuid(os.getuid()).pw_name
    return {
        "PATH": path_without_slurm(),
        "HOME": str(home),
        "USER": user,
        "LOGNAME": user,
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TMPDIR": os.environ["TMPDIR"],  # the test's own, see tests/conftest.py
        MARK: os.environ[MARK],
        **more,
    }


@dataclass(frozen=True)
class Result:
    """How a run of the command ended, and the files it wrote."""

    code: int
    out: str
    err: str
    folder: Path
    prefix: str | None  # as given with -p

    def path(self, suffix: str, prefix: str | None = None) -> Path:
        """PREFIX_SUFFIX, for instance `path("status.txt")`. Without -p: the only one in the folder."""
        prefix = prefix or self.prefix
        if prefix is not None:
            return self.folder / f"{prefix}_{suffix}"
        found = sorted(self.folder.glob(f"*_{suffix}"))
        assert len(found) == 1, f"expected one *_{suffix}, found {[path.name for path in found]}"
        return found[0]

    def records(self, prefix: str | None = None) -> list[Record]:
        """The status file, one dictionary a line, by column (COLUMNS)."""
        return read_status(self.path("status.txt", prefix))

    def events(self, kind: str | None = None, prefix: str | None = None) -> list[Record]:
        """The events file, of one kind or all."""
        lines = self.path("events.jsonl", prefix).read_text("utf-8").split("\n")
        assert lines.pop() == "", "the last event has no newline"
        events = [json.loads(line) for line in lines]
        return [event for event in events if kind in (None, event["kind"])]

    def sidecar(self, prefix: str | None = None) -> Record:
        """PREFIX_run.json."""
        answer: Record = json.loads(self.path("run.json", prefix).read_text("utf-8"))
        return answer


@dataclass
class Running:
    """A taskrun that has been started."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]
    errors: IO[bytes]
    folder: Path
    prefix: str | None

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: int) -> None:
        """A signal to the driver."""
        self.process.send_signal(number)

    def said(self) -> tuple[str, str]:
        """What it has printed so far, on stdout and stderr."""
        return _text(self.output), _text(self.errors)

    def end(self) -> None:
        """Ends what is in its process group (a shell's children too): told first, killed after 5 s."""
        for number, patience in ((signal.SIGTERM, 5), (signal.SIGKILL, None)):
            if self.process.poll() is None:
                os.killpg(self.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(patience)

    def finish(self, timeout: float = 30.0) -> Result:
        """Waits for its end; the test fails when it takes longer than that."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.end()
            out, err = self.said()
            pytest.fail(f"did not end within {timeout:g} s\n--- stdout\n{out}\n--- stderr\n{err}")
        out, err = self.said()
        return Result(code, out, err, self.folder, self.prefix)


@dataclass
class Taskrun:
    """Runs the command in `folder`; every keyword is for one call, `env` of the fixture for all of them."""

    folder: Path
    env: dict[str, str]
    started: list[Running] = field(default_factory=list)
    command: tuple[str, ...] = (sys.executable, "-m", "taskrun")

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))

    def start(
        self,
        *arguments: str | bytes | Path,
        files: Mapping[str, str | bytes] | None = None,
        stdin: bytes | IO[bytes] | int = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Running:
        """Starts it. `stdin` is its text, a file, or subprocess.PIPE."""
        self.write(files or {})
        output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # files, since a pipe could be kept open
        if isinstance(stdin, bytes):
            text, stdin = stdin, tempfile.TemporaryFile()
            stdin.write(text)
            stdin.seek(0)
        folder = cwd or self.folder
        process = subprocess.Popen(
            [*self.command, *arguments],
            stdin=stdin,
            stdout=output,
            stderr=errors,
            cwd=folder,
            env={**self.env, **(env or {})},
            start_new_session=True,  # a Ctrl-C for pytest is not one for the runs
        )
        if not isinstance(stdin, int):
            stdin.close()
        words = [os.fsdecode(word) for word in arguments]
        prefix = words[words.index("-p") + 1] if "-p" in words[:-1] else None
        running = Running(process, output, errors, folder, prefix)
        self.started.append(running)
        return running

    def __call__(
        self,
        *arguments: str | bytes | Path,
        files: Mapping[str, str | bytes] | None = None,
        stdin: bytes | IO[bytes] | int = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 30.0,
    ) -> Result:
        """Runs it to its end."""
        return self.start(*arguments, files=files, stdin=stdin, env=env, cwd=cwd).finish(timeout)

    def processes(self) -> dict[int, str]:
        """pid → command line of all that lives of this test's runs."""
        return processes(self.env[MARK])

    def close(self) -> None:
        for running in self.started:
            running.end()
            for file in (running.process.stdin, running.output, running.errors):
                if file is not None:
                    file.close()


def _text(file: IO[bytes]) -> str:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode("utf-8", "surrogateescape")


def parent(pid: int) -> int:
    """Return the parent of a process, 0 if that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
