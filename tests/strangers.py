"""A second user of the machine, for tests of what one user can do to another.

A test asks for the fixture `stranger`:

    def test_a_link_is_not_followed(taskrun, stranger):
        stranger.open(taskrun.folder)                     # the directory is shared: mode 1777
        stranger.python(f"import os; os.symlink('/victim', {str(taskrun.folder / 'p_events.jsonl')!r})")
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from harness import MARK, cannot

#: The user and group id of the stranger: `nobody` of every Linux.
UID = 65534
#: The system's own interpreter: the one of the tests may lie in a home that strangers cannot enter.
PYTHON = "/usr/bin/python3"


@dataclass
class Stranger:
    """Runs programs as another user than the one of the tests."""

    uid: int = UID
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def open(self, directory: Path, mode: int = 0o1777) -> None:
        """Let the stranger reach `directory` and, as in /tmp, create files in it. Directories above get search permission."""
        directory.chmod(mode)
        for above in directory.parents:
            if above.stat().st_uid == os.getuid() and above != Path("/") and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)

    def python(self, code: str, *arguments: str) -> str:
        """Run Python code as the stranger; return its standard output. The test fails if the code does."""
        done = subprocess.run([PYTHON, "-c", code, *arguments], **self._as_stranger(), capture_output=True, timeout=20, check=False)
        assert done.returncode == 0, f"the stranger's code failed: {done.stderr}"
        return str(done.stdout)

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Start Python code as the stranger, with pipes for standard input and output. It is killed at the end of the test."""
        process = subprocess.Popen(
            [PYTHON, "-c", code, *arguments], **self._as_stranger(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )  # fmt: skip
        self.started.append(process)
        return process

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()

    def _as_stranger(self) -> dict[str, object]:
        return {
            "text": True, "user": self.uid, "group": self.uid, "extra_groups": [], "cwd": "/",
            "env": {"PATH": "/usr/bin:/bin", MARK: os.environ[MARK]},
        }  # fmt: skip


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    """A second user. Only root can act as one: skipped for other users, failed in CI."""
    if os.getuid() != 0:
        cannot("acting as a second user takes root")
    if not os.access(PYTHON, os.X_OK):
        cannot(f"{PYTHON} is not there")
    other = Stranger()
    yield other
    other.close()
