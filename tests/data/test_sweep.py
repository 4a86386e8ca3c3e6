"""Remains of killed runs in a directory go with the next run there: unfinished files, spool directories; files aside come back."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from pathlib import Path

from data.conftest import Bucket
from harness import Taskrun, until

TEXT = "#TASKRUN STAGE-IN s3://genomes/in/ in/\nuntil [ -e go ]; do sleep 0.05; done\n"
FLAGS = ("-s", "localhost:1", "--settle", "0")


def killed(taskrun: Taskrun) -> str:
    """A run that was killed. Returns the tag in the names of its unfinished files."""
    running = taskrun.start("tasks.txt", *FLAGS, "-p", "dead", files={"tasks.txt": TEXT})
    until((taskrun.folder / "in/a").exists, 30, "the input")
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    tag: str = json.loads((taskrun.folder / "dead_run.json").read_text())["data_tag"]
    return tag


def test_another_run_in_the_directory(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/a", b"a")
    tag = killed(taskrun)
    spools = list(Path(taskrun.env.get("TMPDIR", tempfile.gettempdir())).glob(f"taskrun-spool-{tag}-*"))
    assert len(spools) == 1
    unfinished, alien = f"in/.taskrun-{tag}-0123456789abcdef~", "in/.taskrun-0badc0de-0123456789abcdef~"
    taskrun.write({unfinished: "half", alien: "half", f"in/.taskrun-aside-{tag}~/b": "only copy", f".taskrun-aside-{tag}~/in.txt": "x"})
    (taskrun.folder / "go").touch()
    result = taskrun("tasks.txt", *FLAGS, "-p", "next", "--clean", "output")
    assert result.code == 0, result.err
    assert not (taskrun.folder / unfinished).exists()
    assert (taskrun.folder / alien).exists(), "nobody knows whether its run is dead"
    assert (taskrun.folder / "in/b").read_text() == "only copy"
    assert (taskrun.folder / "in.txt").read_text() == "x"
    assert not list(taskrun.folder.rglob(".taskrun-aside-*"))
    assert not spools[0].exists()


def test_nothing_of_a_run_that_goes_on(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/a", b"a")
    running = taskrun.start("tasks.txt", *FLAGS, "-p", "live", files={"tasks.txt": TEXT})
    until((taskrun.folder / "in/a").exists, 30, "the input")
    tag = json.loads((taskrun.folder / "live_run.json").read_text())["data_tag"]
    spool = next(iter(Path(taskrun.env.get("TMPDIR", tempfile.gettempdir())).glob(f"taskrun-spool-{tag}-*")))
    unfinished = f"in/.taskrun-{tag}-0123456789abcdef~"
    taskrun.write({unfinished: "half"})
    result = taskrun("short.txt", *FLAGS, "-p", "next", files={"short.txt": TEXT.partition("\n")[0] + "\ntrue\n"})
    assert result.code == 0, result.err
    assert (taskrun.folder / unfinished).exists()
    assert spool.exists()
    (taskrun.folder / "go").touch()
    assert running.finish(30).code == 0


def test_a_resume(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/a", b"a")
    tag = killed(taskrun)
    taskrun.write({f"sub/.taskrun-aside-{tag}~/b": "only copy", "sub/b": "made anew", f".taskrun-aside-{tag}~/c": "only copy", "go": ""})
    result = taskrun("-r", "dead_status.txt", "-p", "next", *FLAGS)
    assert result.code == 0, result.err
    assert (taskrun.folder / "c").read_text() == "only copy"
    assert (taskrun.folder / "sub/b").read_text() == "made anew"
    assert (taskrun.folder / f"sub/.taskrun-aside-{tag}~/b").read_text() == "only copy", "neither of them goes"
