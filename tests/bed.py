"""A testbed of this process's own: real hosts or nodes in namespaces (tests/testbed), which end when the process does.

Several may be up at once on a machine, one or more for each worker of pytest-xdist and for whoever runs tests beside it: every
testbed has a number, which is in all its names and addresses, and is taken with a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from harness import cannot, need

_SCRIPTS = Path(__file__).resolve().parent / "testbed"
_NUMBERS = range(50, 97)  # those below are for people
PATIENCE = 5.0  # seconds in which what a test started may still be on its way out


class Bed:
    """One testbed. `script` is ssh-hosts or slurm-cluster, `programs` what must be installed for it, `up` its size.

    Where it cannot be (no root, no namespaces, a program missing), tests are skipped, in CI failed.
    """

    def __init__(self, script: str, programs: tuple[str, ...], *up: str) -> None:
        if os.getuid() != 0:
            cannot("the testbed needs root, for namespaces")
        for program in programs:
            need(program)
        self.script = _SCRIPTS / script
        self.number, lock = _take_number(script)
        # Not in TMPDIR, which may be long (sockets live here), and not in the test's own, which goes before it.
        self.folder = Path(tempfile.mkdtemp(prefix=f"testbed-{self.number}-", dir="/tmp"))
        # Nothing of the test that happens to be the first: neither its mark, nor its folder for temporary files.
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/root"),
            "LANG": "C.UTF-8",
            "TESTBED_NUMBER": str(self.number),
            "TESTBED_DIR": str(self.folder),
            "TESTBED_INSTALL": "no",
        }
        with lock:
            # It holds the lock and waits for the end of its stdin, which comes however this process ends.
            self._keeper = subprocess.Popen(
                [self.script, "down-at-eof"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self._env,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )
        started = self.call("up", *up, check=False)
        if started.returncode != 0:
            self.close()
            if "cannot make network namespaces" in started.stderr:
                cannot(started.stderr.strip())
            raise RuntimeError(started.stderr)

    def call(self, verb: str, *arguments: str | Path, check: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """One verb of the script. Raises RuntimeError with what it said when it fails (unless `check` is off)."""
        done = subprocess.run(
            [self.script, verb, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            env=self._env,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{self.script.name} {verb}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def close(self) -> None:
        """Down, with all that runs in it; returns when it is gone."""
        stdin = self._keeper.stdin
        assert stdin is not None
        stdin.close()
        try:
            self._keeper.wait(60)
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)


def _take_number(script: str) -> tuple[int, IO[bytes]]:
    for number in _NUMBERS:
        lock = Path(f"/run/lock/testbed-{script}-{number}.owner").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        else:
            return number, lock
    raise RuntimeError("all numbers of testbeds are taken")


class Member:
    """One host or node, seen from the machine. `own` tells which processes (by command line) belong to the host itself."""

    def __init__(self, folder: Path, own: Callable[[str], bool]) -> None:
        self._pid_file = folder / "init.pid"
        self._own = own

    @property
    def _init(self) -> int:
        return int(self._pid_file.read_text())

    def path(self, name: str) -> Path:
        """A file of the host, as a path of the machine. While the host runs; a link in it leads elsewhere."""
        return Path(f"/proc/{self._init}/root/{name.lstrip('/')}")

    def processes(self) -> dict[int, str]:
        """pid (the machine's) → command line of all that runs there, but for the host's own daemons."""
        found = {}
        try:
            init = self._init
            namespace = Path(f"/proc/{init}/ns/pid").readlink()
        except FileNotFoundError:  # it has no power
            return {}
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) == init:
                continue
            with contextlib.suppress(OSError):  # it has ended
                if Path(f"/proc/{entry}/ns/pid").readlink() == namespace:
                    argv = Path(f"/proc/{entry}/cmdline").read_bytes()
                    line = argv.replace(b"\0", b" ").decode("utf-8", "replace").strip()
                    if line and not self._own(line):  # a zombie has none
                        found[int(entry)] = line
        return found

    def end_processes(self, patience: float) -> dict[int, str]:
        """Waits so many seconds for what runs there to end; what does not is killed and returned."""
        end = time.monotonic() + patience
        while (left := self.processes()) and time.monotonic() < end:
            time.sleep(0.05)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def empty(self, name: str) -> list[str]:
        """Empties a folder there; returns the names of what was in it."""
        folder = self.path(name)
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
        for entry in names:
            path = folder / entry
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return names
