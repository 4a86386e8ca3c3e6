"""Records that somebody else has made, or could have changed, are not obeyed: not a word of them, unless --trust-records is given."""

from __future__ import annotations

import grp
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import ROOT, Result, Taskrun
from strangers import Stranger

from taskrun.engines import invitation
from taskrun.engines.invitation import Invitation
from taskrun.status import sidecar, trust
from taskrun.status.events import EventsWriter
from taskrun.status.reader import StatusIndex

#: A stranger's program, that a resume would run.
PROGRAM = "touch {folder}/obeyed"


@pytest.fixture
def theirs(taskrun: Taskrun, stranger: Stranger) -> Callable[..., None]:
    """Gives files of the folder to the stranger."""
    stranger.open(taskrun.folder)

    def give(*names: str) -> None:
        for name in names:
            os.chown(taskrun.folder / name, stranger.uid, stranger.uid)

    return give


def run_once(taskrun: Taskrun, text: str = "true\n", *words: str, stdin: bytes | None = None) -> Result:
    taskfile = "tasks.txt" if stdin is None else "-"
    result = taskrun(taskfile, "-s", "localhost:1", "-p", "one", *words, files={"tasks.txt": text}, stdin=stdin or b"")
    assert result.code == 0, result.err
    return result


def spoil(path: Path, **changes: object) -> None:
    """Change keys of a sidecar; `options` are added to those that are there."""
    values = json.loads(path.read_bytes())
    for name, value in changes.items():
        if name == "options":
            assert isinstance(value, dict)
            values["options"] |= {key: {"value": each, "origin": "flag"} for key, each in value.items()}
        else:
            values[name] = value
    path.write_text(json.dumps(values))


def test_a_strangers_sidecar_makes_a_resume_run_nothing(taskrun: Taskrun, theirs: Callable[..., None]) -> None:
    run_once(taskrun)
    program = PROGRAM.format(folder=taskrun.folder)
    spoil(taskrun.folder / "one_run.json", options={"ssh": program, "retire_cmd": program, "hosts": ["other:1"]})
    (taskrun.folder / "one_status.txt").write_text("")
    before = sorted(taskrun.folder.iterdir())
    theirs("one_run.json")
    for words in ((), ("--dry-run",), ("-R", "--append")):
        result = taskrun("-r", "one_status.txt", *words)
        assert (result.code, result.out) == (2, "")
        assert "one_run.json belongs to user nobody, and taskrun would do what it says" in result.err
        assert "--trust-records" in result.err
    assert sorted(taskrun.folder.iterdir()) == before


@pytest.mark.parametrize("name", ["one_status.txt", "one_events.jsonl"])
def test_a_run_whose_files_cannot_be_continued_keeps_its_sidecar(taskrun: Taskrun, theirs: Callable[..., None], name: str) -> None:
    run_once(taskrun)
    before = (taskrun.folder / "one_run.json").read_bytes()
    theirs(name)
    result = taskrun("-r", "one_status.txt", "--append", "--trust-records")
    assert result.code == 2
    assert f"{name} cannot be opened for writing: it belongs to nobody" in result.err
    assert (taskrun.folder / "one_run.json").read_bytes() == before


@pytest.mark.parametrize("name", ["one_status.txt", "one_run.json"])
@pytest.mark.parametrize("words", [("-r", "one_status.txt"), ("tasks.txt", "-s", "localhost:1", "-r", "one_status.txt")])
def test_every_record_counts_also_when_the_task_file_is_named(
    taskrun: Taskrun, theirs: Callable[..., None], name: str, words: tuple[str, ...]
) -> None:
    run_once(taskrun, "true\ntouch ran\n")
    (taskrun.folder / "ran").unlink()
    theirs(name)
    result = taskrun(*words, "-p", "two")
    assert result.code == 2
    assert f"{name} belongs to user nobody" in result.err
    assert not (taskrun.folder / "ran").exists()
    assert not list(taskrun.folder.glob("two*"))
    result = taskrun(*words, "-p", "two", "--trust-records")
    assert result.code == 0, result.err
    assert len(result.records()) == 2


def test_what_was_read_of_a_stream_is_a_record(taskrun: Taskrun, theirs: Callable[..., None]) -> None:
    run_once(taskrun, stdin=b"true\ntouch ran\n")
    theirs("one_tasks.txt")
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert result.code == 2
    assert "one_tasks.txt belongs to user nobody" in result.err


def test_the_files_of_foreach_are_a_record(taskrun: Taskrun, theirs: Callable[..., None]) -> None:
    (taskrun.folder / "d").mkdir()
    (taskrun.folder / "d/a").touch()
    run_once(taskrun, "#TASKRUN FOREACH d/* test -e {}\n")
    theirs("one_files.txt")
    result = taskrun("-r", "one_status.txt", "-p", "two")
    assert result.code == 2
    assert "one_files.txt belongs to user nobody" in result.err


def test_the_events_of_a_file_that_is_continued(taskrun: Taskrun, theirs: Callable[..., None]) -> None:
    run_once(taskrun)
    theirs("one_events.jsonl")
    before = {path.name: path.read_bytes() for path in taskrun.folder.iterdir()}
    result = taskrun("-r", "one_status.txt", "--append")
    assert result.code == 2
    assert "one_events.jsonl belongs to user nobody" in result.err
    assert (taskrun.folder / "one_status.txt").read_bytes() == before["one_status.txt"]
    assert (taskrun.folder / "one_events.jsonl").read_bytes() == before["one_events.jsonl"]


def test_a_strangers_file_that_only_names_the_status_file_is_passed_over(taskrun: Taskrun, theirs: Callable[..., None]) -> None:
    """Else anybody could keep a resume from finding the sidecar, in a folder that is shared."""
    run_once(taskrun)
    (taskrun.folder / "one_status.txt").rename(taskrun.folder / "old.txt")
    spoil(taskrun.folder / "one_run.json", status="old.txt")
    shutil.copy(taskrun.folder / "one_run.json", taskrun.folder / "zz_run.json")
    spoil(taskrun.folder / "zz_run.json", started=9e9, options={"ssh": "false"})
    theirs("zz_run.json")
    assert sidecar.find(taskrun.folder / "old.txt") == taskrun.folder / "one_run.json"
    (taskrun.folder / "one_run.json").unlink()
    result = taskrun("-r", "old.txt")
    assert result.code == 2
    assert "has no sidecar" in result.err


def test_a_run_of_somebody_else_may_be_looked_at(taskrun: Taskrun, theirs: Callable[..., None]) -> None:
    run_once(taskrun)
    theirs("one_run.json", "one_events.jsonl", "one_status.txt")
    result = taskrun("monitor", "one", "--once")
    assert (result.code, result.out.split(":")[0]) == (0, "one"), result.err


def test_a_strangers_attach_file_is_not_used(taskrun: Taskrun, stranger: Stranger) -> None:
    """Root could read it. What attaches runs the tasks of whoever made the file."""
    path = taskrun.folder / "one_attach.json"
    Invitation("r1", [("127.0.0.1", 1)], "0" * 64, "secret").write(path)
    os.chown(path, stranger.uid, stranger.uid)
    result = taskrun("attach", "one", "-s", "localhost:1")
    assert result.code == 2
    assert "one_attach.json belongs to user nobody" in result.err
    assert "--trust-records" not in result.err
    os.chown(path, os.getuid(), os.getgid())
    assert invitation.load(path).run_id == "r1"


def test_a_job_that_slurm_starts_again_does_not_go_on_with_a_strangers_file(taskrun: Taskrun, theirs: Callable[..., None]) -> None:
    """Nor does it run everything again: it is refused, and somebody looks."""
    job = {"SLURM_JOB_ID": "7"}
    words = ("tasks.txt", "-s", "localhost:1", "-p", "one")
    assert taskrun(*words, files={"tasks.txt": "true\n"}, env=job).code == 0
    theirs("one_run.json")
    again = taskrun(*words, env={**job, "SLURM_RESTART_COUNT": "1"})
    assert again.code == 2
    assert "one_run.json belongs to user nobody" in again.err


@pytest.mark.parametrize("name", ["one_run.json", "one_status.txt", "one_events.jsonl"])
def test_a_pipe_in_the_place_of_a_record_is_not_waited_for(taskrun: Taskrun, name: str) -> None:
    run_once(taskrun)
    (taskrun.folder / name).unlink()
    os.mkfifo(taskrun.folder / name)
    result = taskrun("-r", "one_status.txt", "--dry-run")
    assert result.code == 2
    assert f"{name} is not a regular file" in result.err


def test_a_sidecar_without_end_is_not_read_to_its_end(taskrun: Taskrun) -> None:
    run_once(taskrun)
    os.truncate(taskrun.folder / "one_run.json", 1 << 40)
    result = taskrun("-r", "one_status.txt")
    assert result.code == 2
    assert "one_run.json is not the sidecar of a run: it has more than 16 MiB" in result.err


# the rule itself, with files of the tests' own user


@pytest.fixture
def record(tmp_path: Path) -> Path:
    path = tmp_path / "x_status.txt"
    path.write_bytes(b"    \t0\t1\t-1\tvm\t9\t0\t0.100\t1.000\t1.100\t0\t''\t0\t''\ttrue\n")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("mode", [0o666, 0o646, 0o602])
def test_a_record_that_everybody_can_write_to(record: Path, mode: int) -> None:
    record.chmod(mode)
    for read in (StatusIndex, lambda path: EventsWriter(path, append=True)):
        with pytest.raises(trust.Untrusted, match=rf"x_status.txt can be written by everybody \(mode {mode:04o}\).*chmod go-w \S+/x_\* if"):
            read(record)
    trust.trust_everybody(True)
    try:
        StatusIndex(record).close()
    finally:
        trust.trust_everybody(False)
    record.chmod(0o600)
    StatusIndex(record).close()


@pytest.mark.parametrize(
    ("group", "members", "primary", "right"),
    [
        ("me", [], True, True),  # a user's private group, as distributions make one
        ("me", ["me"], True, True),
        ("me", ["me", "other"], True, False),
        ("users", [], True, False),  # everybody's primary group: its members are not listed
        ("me", [], False, False),
    ],
)
def test_a_group_that_can_write_is_to_be_its_owners_alone(
    record: Path, monkeypatch: pytest.MonkeyPatch, group: str, members: list[str], primary: bool, right: bool
) -> None:
    record.chmod(0o664)
    gid = record.stat().st_gid
    monkeypatch.setattr(trust.pwd, "getpwuid", lambda uid: os_user(uid, gid if primary else gid + 1))
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((group, "x", gid, members)))
    if right:
        StatusIndex(record).close()
    else:
        with pytest.raises(trust.Untrusted, match=f"can be written by group {group}"):
            StatusIndex(record)


def os_user(uid: int, gid: int) -> object:
    return trust.pwd.struct_passwd(("me", "x", uid, gid, "", "/", "/bin/sh"))


def test_root_under_sudo_is_also_the_user_who_called_it(record: Path, stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(record, stranger.uid, stranger.uid)
    with pytest.raises(trust.Untrusted, match="belongs to user nobody"):
        StatusIndex(record)
    monkeypatch.setenv("SUDO_UID", str(stranger.uid))
    StatusIndex(record).close()
    monkeypatch.setenv("SUDO_UID", "x")
    with pytest.raises(trust.Untrusted):
        StatusIndex(record)


def test_a_users_own_files_and_those_of_root_are_obeyed(stranger: Stranger, tmp_path: Path) -> None:
    """Of another user than root, who would be the caller: SUDO_UID says nothing then."""
    code = """
import os, sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from taskrun.status import trust
os.environ["SUDO_UID"] = "1"
own = Path(sys.argv[2], "own")
own.touch()
for path in (own, Path("/etc/passwd")):
    trust.opened(path).close()
try:
    trust.opened(Path(sys.argv[2], "third"))
except trust.Untrusted as error:
    print(error)
"""
    stranger.open(tmp_path)
    (tmp_path / "third").touch()
    os.chown(tmp_path / "third", 1, 1)
    # Of the checkout a copy: that may lie where strangers cannot read.
    shutil.copytree(ROOT / "taskrun", tmp_path / "taskrun", ignore=shutil.ignore_patterns("__pycache__"))
    assert "third belongs to user" in stranger.python(code, str(tmp_path), str(tmp_path))


LONG = "x" * 5000


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"status": LONG}, 0),
        ({"task_file": {"path": f"/{LONG}", "sha256": "", "size": 0}}, 2),
        ({"resumed_from": [f"/{LONG}_status.txt"], "carried": False}, 0),
        ({"task_file": None, "stream_complete": True, "status": LONG}, 2),
        ({"name": LONG}, 0),
    ],
)
def test_names_in_a_sidecar_that_no_file_can_have(taskrun: Taskrun, change: dict[str, object], code: int) -> None:
    run_once(taskrun)
    spoil(taskrun.folder / "one_run.json", **change)
    result = taskrun("-r", "one_status.txt")
    assert result.code == code, result.err
    assert "Traceback" not in result.err
    assert code == 0 or "File name too long" in result.err
