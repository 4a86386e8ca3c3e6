"""A run in a directory where another user has laid links, hard links and FIFOs under the names of the run's files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from harness import Result, Taskrun
from strangers import Stranger

#: Files of a run: those whose names it takes all the same (or does without), and those of which it is refused, by their endings.
GOES_ON = (
    "_dbUtil.sh", "_attach.json", "_driver.log", f"_{socket.gethostname()}_0.log", "_run.json", "_files.txt", "_tasks.txt",
    "_status.txt.unwritten", "_events.jsonl.unwritten", "_manifest.json",
)  # fmt: skip
REFUSED = ("_events.jsonl", "_status.txt")
MINE = "alias ll='ls -l'\n"


@pytest.fixture
def victim(taskrun: Taskrun, stranger: Stranger) -> Path:
    """A file of the user of the tests, outside of the directory that is shared."""
    home = taskrun.folder / "home"
    home.mkdir()
    (home / ".bashrc").write_text(MINE)
    (home / ".bashrc").chmod(0o644)
    (taskrun.folder / "shared").mkdir()
    stranger.open(taskrun.folder / "shared")
    return home / ".bashrc"


def run(taskrun: Taskrun, *arguments: str, files: dict[str, str] | None = None, stdin: bytes = b"") -> Result:
    """A run that is long enough for the door to open, of a task file that has a FOREACH."""
    text = "#TASKRUN FOREACH *.in echo {}\nuntil [ -e run_dbUtil.sh -o -e go ]; do sleep 0.05; done\n"
    shared = taskrun.folder / "shared"
    if not (shared / "tasks.txt").exists():
        (shared / "tasks.txt").write_text(text)
        (shared / "a.in").touch()
    return taskrun(*arguments, cwd=shared, files=files, stdin=stdin, timeout=40)


def untouched(victim: Path) -> None:
    assert victim.read_text() == MINE
    assert not victim.is_symlink()
    assert victim.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in victim.parent.iterdir()) == [".bashrc"]


def sound(result: Result) -> None:
    """Assert that the run went on, or was refused with one sentence that names the file."""
    assert "Traceback" not in result.err
    assert result.code in (0, 2), result.err
    if result.code == 2:
        assert result.err.count("\n") == 1, result.err
        assert "run_" in result.err


LAYING = {
    "link": "os.symlink(sys.argv[1], sys.argv[2])",
    "dangling link": "os.symlink(os.path.dirname(sys.argv[1]) + '/.profile', sys.argv[2])",
    "fifo": "os.mkfifo(sys.argv[2]); os.chmod(sys.argv[2], 0o666)",
    "file": "open(sys.argv[2], 'w').write('theirs'); os.chmod(sys.argv[2], 0o666)",
}


@pytest.mark.parametrize("kind", LAYING)
def test_nothing_is_written_through_what_another_user_has_laid(taskrun: Taskrun, stranger: Stranger, victim: Path, kind: str) -> None:
    """Nothing hangs, no file elsewhere is made or changed."""
    shared = taskrun.folder / "shared"
    (shared / "go").touch()
    for names, code in ((GOES_ON, 0), *(((name,), 2) for name in REFUSED)):
        for name in names:
            stranger.python(f"import os, sys; {LAYING[kind]}", str(victim), str(shared / f"run{name}"))
        result = run(taskrun, "tasks.txt", "-s", "localhost:1", "-p", "run")
        untouched(victim)
        assert result.code == code, result.err
        sound(result)
        for left in shared.glob("run*"):
            left.unlink()


def test_the_script_of_a_run_does_not_replace_a_file_elsewhere(taskrun: Taskrun, stranger: Stranger, victim: Path) -> None:
    """In a directory of ours the script takes the place of the link; the run goes on."""
    shared = taskrun.folder / "shared"
    stranger.python(f"import os, sys; {LAYING['link']}", str(victim), str(shared / "run_dbUtil.sh"))
    tasks = "until [ -f run_dbUtil.sh -a ! -L run_dbUtil.sh ]; do sleep 0.05; done; stat -c %a run_dbUtil.sh > mode\n"
    (shared / "tasks.txt").write_text(tasks)
    result = run(taskrun, "tasks.txt", "-s", "localhost:1", "-p", "run")
    assert result.code == 0, result.err
    assert (shared / "mode").read_text() == "700\n"
    untouched(victim)


@pytest.mark.parametrize("name", ["_events.jsonl", "_driver.log", f"_{socket.gethostname()}_0.log"])
def test_a_hard_link_to_a_file_of_ours_is_not_written_to(taskrun: Taskrun, victim: Path, name: str) -> None:
    """Another user can lay one where fs.protected_hardlinks is off."""
    shared = taskrun.folder / "shared"
    os.link(victim, shared / f"run{name}")
    (shared / "go").touch()
    result = run(taskrun, "tasks.txt", "-s", "localhost:1", "-p", "run")
    sound(result)
    assert victim.read_text() == MINE


def test_a_run_that_goes_on_does_not_follow_links_either(taskrun: Taskrun, stranger: Stranger, victim: Path) -> None:
    shared = taskrun.folder / "shared"
    (shared / "go").touch()
    assert run(taskrun, "tasks.txt", "-s", "localhost:1", "-p", "run").code == 0
    for name in ("_events.jsonl", "_status.txt"):
        kept = (shared / f"run{name}").read_bytes()
        (shared / f"run{name}").unlink()
        stranger.python(f"import os, sys; {LAYING['link']}", str(victim), str(shared / f"run{name}"))
        result = run(taskrun, "-r", "run_status.txt", "-R", "--append")
        untouched(victim)
        sound(result)
        assert result.code == 2
        (shared / f"run{name}").unlink()
        (shared / f"run{name}").write_bytes(kept)


def test_the_copy_of_a_stream_that_is_cut_is_the_runs_own(taskrun: Taskrun, stranger: Stranger, victim: Path) -> None:
    """-r --as-is cuts half a line off the copy: not off what a link in its place points to."""
    shared = taskrun.folder / "shared"
    assert run(taskrun, "-", "-s", "localhost:1", "-p", "run", stdin=b"true\n").code == 0
    sidecar = shared / "run_run.json"
    sidecar.write_text(sidecar.read_text().replace('"stream_complete": true', '"stream_complete": false'))
    (shared / "run_tasks.txt").unlink()
    victim.write_text("true\nno newline")
    stranger.python(f"import os, sys; {LAYING['link']}", str(victim), str(shared / "run_tasks.txt"))
    result = run(taskrun, "-r", "run_status.txt", "--as-is")
    assert (result.code, victim.read_text()) == (2, "true\nno newline"), result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("where", ["events", "log"])
def test_what_an_earlier_run_has_left(taskrun: Taskrun, where: str) -> None:
    """Its log is appended to; its events are kept, and the new run is told to take another name."""
    taskrun.write({"tasks.txt": "echo >> ran\n"})
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "run").code == 0
    events = (taskrun.folder / "run_events.jsonl").read_bytes()
    log = (taskrun.folder / "run_driver.log").read_bytes()
    for name in ("run_status.txt", "run_run.json", *(["run_events.jsonl"] if where == "log" else [])):
        (taskrun.folder / name).unlink()
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run")
    if where == "events":
        assert (result.code, (taskrun.folder / "ran").read_text()) == (2, "\n")
        assert result.err.count("\n") == 1
        assert "run_events.jsonl is there already" in result.err
        assert (taskrun.folder / "run_events.jsonl").read_bytes() == events
        assert (taskrun.folder / "run_driver.log").read_bytes() == log
    else:
        assert result.code == 0
        assert (taskrun.folder / "run_driver.log").read_bytes().startswith(log)


def test_a_directory_that_is_a_link_is_the_users_own_doing(taskrun: Taskrun) -> None:
    (taskrun.folder / "scratch").mkdir()
    (taskrun.folder / "project").symlink_to("scratch")
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "project/run", "--logfile", "project/my.log", files={"tasks.txt": "true\n"})
    assert result.code == 0, result.err
    assert (taskrun.folder / "scratch" / "run_events.jsonl").exists()
    assert (taskrun.folder / "scratch" / "my.log").exists()


@pytest.mark.parametrize("path", ["/dev/stderr", "/dev/stdout", "/dev/fd/2", "/dev/null"])
def test_a_log_may_go_to_a_device(taskrun: Taskrun, path: str) -> None:
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--logfile", path, files={"tasks.txt": "true\n"})
    assert result.code == 0, result.err
    said = {"/dev/stdout": result.out, "/dev/null": "INFO taskrun"}.get(path, result.err)
    assert "INFO taskrun" in said


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_a_log_that_is_asked_for_is_no_link(taskrun: Taskrun, kind: str) -> None:
    taskrun.write({"tasks.txt": "true\n", "file": ""})
    path = taskrun.folder / "my.log"
    if kind == "link":
        path.symlink_to("file")
    else:
        os.mkfifo(path)
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--logfile", "my.log")
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert result.err.startswith("taskrun: --logfile my.log: it is ")


@pytest.mark.parametrize("kind", ["link", "fifo", "file"])
def test_a_job_script_takes_nobodys_place(taskrun: Taskrun, stranger: Stranger, victim: Path, kind: str, tmp_path: Path) -> None:
    shared = taskrun.folder / "shared"
    stranger.python(f"import os, sys; {LAYING[kind]}", str(victim), str(shared / "tasks.txt.sbatch"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    (shared / "tasks.txt").write_text("true\n")
    result = taskrun("submit", "tasks.txt", cwd=shared, env={"PATH": f"{tmp_path}/bin:{taskrun.env['PATH']}"})
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    assert "tasks.txt.sbatch" in result.err
    untouched(victim)


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_an_invitation_takes_nobodys_place(taskrun: Taskrun, stranger: Stranger, victim: Path, kind: str) -> None:
    shared = taskrun.folder / "shared"
    stranger.python(f"import os, sys; {LAYING[kind]}", str(victim), str(shared / "friend.json"))
    result = taskrun("attach", "run", "--invite", "friend.json", cwd=shared)
    assert (result.code, result.err.count("\n")) == (2, 1), result.err
    untouched(victim)
