"""Locks and claims that another user has laid in a shared folder: they cannot keep a resume waiting, or it is said what helps."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from harness import Taskrun
from strangers import Stranger

from taskrun.errors import Refused
from taskrun.status import lock
from taskrun.status.owner import this_process


@pytest.fixture
def prefix(tmp_path: Path, stranger: Stranger) -> Path:
    """Of a run that was killed, in a folder where everybody may make files and remove their own."""
    stranger.open(tmp_path)
    prefix = tmp_path / "p"
    with subprocess.Popen(["/bin/true"]) as gone:
        pass
    (tmp_path / "p.lock").write_text(json.dumps({**json.loads(this_process("killed").to_json()), "pid": gone.pid, "start_time": 1}))
    return prefix


def lay_claim(prefix: Path, stranger: Stranger) -> Path:
    """The stranger takes the sole right to remove the lock, in the name of a process that lives."""
    held = prefix.with_suffix(".lock").read_bytes()
    claim = prefix.with_name(f"p.lock.claim-{lock._digest(held)}-0")
    stranger.python(
        "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", str(claim), this_process("stranger").to_json().decode()
    )  # fmt: skip
    return claim


def test_a_strangers_claim_keeps_nobody_from_a_dead_lock(prefix: Path, stranger: Stranger) -> None:
    claim = lay_claim(prefix, stranger)
    mine = lock.acquire(prefix, "mine")
    assert mine.previous is not None
    assert mine.previous.run_id == "killed"
    mine.release()
    assert not prefix.with_suffix(".lock").exists()
    assert not claim.exists() or claim.stat().st_uid == stranger.uid


@pytest.mark.parametrize(("what", "mode"), [("claim", 0o1777), ("lock", 0o1777), ("nothing", 0o777)])
def test_the_claim_of_who_can_remove_the_lock_counts(
    prefix: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch, what: str, mode: int
) -> None:
    claim = lay_claim(prefix, stranger)
    if what == "claim":
        os.chown(claim, os.getuid(), -1)
    elif what == "lock":
        os.chown(prefix.with_suffix(".lock"), stranger.uid, -1)
    prefix.parent.chmod(mode)
    monkeypatch.setattr(lock, "_PATIENCE", 0.05)
    with pytest.raises(Refused, match="is just being taken over by another run"):
        lock.acquire(prefix, "mine")


def test_a_strangers_lock_is_called_theirs_and_a_copy_resumes(taskrun: Taskrun, stranger: Stranger) -> None:
    stranger.open(taskrun.folder)
    assert taskrun("tasks.txt", "-s", "localhost:1", "-p", "one", files={"tasks.txt": "true\n"}).code == 0
    (taskrun.folder / "one.lock").write_bytes(this_process("theirs").to_json())
    os.chown(taskrun.folder / "one.lock", stranger.uid, -1)
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert result.code == 2
    assert (
        "the lock belongs to nobody: if nobody does not carry your run on, copy one_* to a folder of your own and resume there"
        in result.err
    )
    own = taskrun.folder / "own"
    own.mkdir()
    for name in ("one_status.txt", "one_run.json", "one_events.jsonl"):
        (own / name).write_bytes((taskrun.folder / name).read_bytes())
    assert taskrun("-r", "own/one_status.txt", "-p", "two").code == 0


def test_a_job_that_is_started_again_finds_its_file_behind_a_strangers(taskrun: Taskrun, stranger: Stranger) -> None:
    stranger.open(taskrun.folder)
    text = "echo x >> ran\n"
    for name in ("tasks.txt_77_run.json", "tasks.txt_77_status.txt"):
        stranger.python("import sys; open(sys.argv[1], 'w').write('{}')", str(taskrun.folder / name))
    words = ("tasks.txt", "-s", "localhost:1")
    assert taskrun(*words, files={"tasks.txt": text}, env={"SLURM_JOB_ID": "77"}).code == 0
    again = taskrun(*words, env={"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "1"})
    assert again.code == 0, again.err
    assert "it goes on with tasks.txt_77.2_status.txt" in again.err
    assert (taskrun.folder / "ran").read_text() == "x\n"
    (taskrun.folder / "tasks.txt_77.2_run.json").chmod(0o666)
    last = taskrun(*words, env={"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "2"})
    assert last.code == 2
    assert "tasks.txt_77.2_run.json can be written by everybody" in last.err
