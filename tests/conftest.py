"""What holds for every test: a temporary folder and a mark of its own, and nothing left behind when it is over.

The harness (harness.py) runs the real command. A test that cannot do without some program asks `need("parallel")` for it:
skipped with a reason on a laptop, failed where CI is set.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from cloud import cloud
from harness import MARK, Taskrun, environment, kill, path_without_slurm, processes, session_folder
from keyring import keys, made_keys
from pythons import found, pythons
from slurm_cluster import _slurm_cluster_of_session, slurm_cluster
from ssh_hosts import _ssh_hosts_of_session, ssh_hosts
from strangers import stranger

# Fixtures that are written elsewhere. Imported here and nowhere else, so that there is one of each in a process.
__all__ = [
    "_slurm_cluster_of_session",
    "_ssh_hosts_of_session",
    "cloud",
    "keys",
    "made_keys",
    "pythons",
    "slurm_cluster",
    "ssh_hosts",
    "stranger",
]

# No deadline: two cores run real processes beside it. What failed is printed so that it can be run again.
hypothesis.settings.register_profile("taskrun", deadline=None, print_blob=True)
hypothesis.settings.load_profile("taskrun")

# Started in the background of a script, the tests ignore SIGINT, and what they start would, too, as it should.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

_PATIENCE = 5.0  # seconds in which the last process of a run may still be on its way out


@pytest.fixture(scope="session", autouse=True)
def _shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    tmp_path_factory.getbasetemp()  # made now, while TMPDIR is still the session's
    path_without_slurm()  # the same
    yield
    if session_folder.cache_info().currsize:
        shutil.rmtree(session_folder())


@pytest.fixture(autouse=True)
def nothing_left_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails a test that leaves a process, an unwaited child or a temporary file. Its name is short: sockets live under it."""
    mark = uuid.uuid4().hex
    folder = Path(tempfile.mkdtemp(prefix="t"))
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = _children()
    yield
    left = _left(mark, before)
    end = time.monotonic() + _PATIENCE
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = _left(mark, before)
    kill(left)
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
    shutil.rmtree(folder, ignore_errors=True)
    complaints = [f"process {pid}: {line}" for pid, line in left.items()] + [f"temporary file: {name}" for name in files]
    if complaints:
        pytest.fail("the test left behind\n  " + "\n  ".join(complaints), pytrace=False)


@pytest.fixture
def taskrun(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taskrun]:
    """The real command in an empty folder (`taskrun.folder`, which is tmp_path), with an empty home."""
    runner = Taskrun(tmp_path, environment(home=tmp_path_factory.mktemp("home")))
    yield runner
    runner.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)  # stable: the others stay in their order


def _left(mark: str, before: set[int]) -> dict[int, str]:
    return dict.fromkeys(_children() - before, "a child nobody waited for") | processes(mark)


def _children() -> set[int]:
    """Children of this process, the dead ones that nobody waited for among them."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except OSError:  # the thread has ended
            continue
    return found


def pytest_report_header() -> str:
    told = "a missing program fails its tests" if os.environ.get("CI") else "a missing program skips its tests"
    versions = ", ".join(".".join(map(str, version)) for version in found())
    return f"taskrun: {told}; GNU Parallel is {shutil.which('parallel') or 'not installed'}; Pythons for hosts: {versions}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Times that a test has measured and judges nothing by."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "times":
                terminalreporter.write_line(f"{value}")
