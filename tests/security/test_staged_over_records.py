"""Files that a store, or a host, sends under the names of the run's own files, and of others that a later -r would obey."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from data.conftest import bucket
from harness import Taskrun
from staging.conftest import Connection, Moving, buckets, connection, folder, moving, rclone_config, sshd, stores

from taskrun.staging.guard import Guard
from taskrun.staging.locations import Location
from taskrun.staging.sftp import SftpStore
from taskrun.staging.stores import Settings, Stores
from taskrun.staging.transfers import Renamed
from taskrun.status import names
from taskrun.status.record import HEADER

__all__ = [
    "bucket",
    "buckets",
    "connection",
    "folder",
    "moving",
    "rclone_config",
    "sshd",
    "stores",
]  # fixtures that are written elsewhere

STRANGE = "touch stolen\n"
RECORD = "    \t0\t2\t-1\tvm\t9\t0\t0.1\t1.0\t2.0\t0\t''\t0\t''\ttrue\n"
OWN = ("tasks.txt", "run_status.txt", "run_run.json", "run_events.jsonl", "run_manifest.json", "run_driver.log", "run_tasks.txt",
       "run_vm_0.log", "RUN_STATUS.TXT", "run.lock", "run_attach.json")  # fmt: skip


def test_a_store_sends_the_runs_own_files(taskrun: Taskrun, bucket: Any) -> None:
    """Each is refused with a sentence, the rest comes, and the next -r runs what the person wrote."""
    for name in (*OWN, "other.txt"):
        bucket.put(f"in/{name}", STRANGE.encode())
    text = "#TASKRUN STAGE-IN s3://genomes/in/ ./\necho done > made\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert result.code == 3
    assert (taskrun.folder / "tasks.txt").read_text() == text
    assert (taskrun.folder / "other.txt").read_text() == STRANGE
    failures = [event for event in result.events("transfer") if event["cause"] != "ok"]
    assert {Path(event["dest"]).name for event in failures} == set(OWN)
    assert all("choose another DEST" in event["why"] for event in failures)
    assert "tasks.txt is the task file of this run" in " ".join(event["why"] for event in failures)
    again = taskrun("-r", "run_status.txt", "-p", "again", "-s", "localhost:1")
    assert again.code == 3
    assert not any((taskrun.folder / name).exists() for name in ("stolen", "run_manifest.json.2", "RUN_STATUS.TXT", "run_attach.json"))


def test_a_task_sends_its_output_over_the_task_file(taskrun: Taskrun) -> None:
    text = (
        f"#TASKRUN STAGE-OUT out/*.txt ./\nmkdir out; for f in tasks run_status results; do echo '{STRANGE.strip()}' > out/$f.txt; done\n"
    )
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--settle", "0", files={"tasks.txt": text})
    assert result.code == 3
    assert (taskrun.folder / "tasks.txt").read_text() == text
    assert (taskrun.folder / "results.txt").read_text() == STRANGE
    assert [record["ReturnCode"] for record in result.records()] == [0]
    assert "out/tasks.txt was not delivered" in result.err


def test_one_task_fails_and_the_others_do_not(taskrun: Taskrun) -> None:
    text = "#TASKRUN STAGE-IN TASK src/$TASKRUN_REPEAT_INDEX/* ./\n#TASKRUN REPEAT 2 start 1 true\n"
    result = taskrun(
        "tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text, "src/1/tasks.txt": STRANGE, "src/2/fine.txt": "x"}
    )
    assert sorted(record["ReturnCode"] for record in result.records()) == [0, 74]
    assert (taskrun.folder / "tasks.txt").read_text() == text


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A run `run` with a task file in a folder of its own, a run `live` that goes on, and one `dead` that has ended."""
    made = tmp_path / "here"
    for name in ("", "inner", "home"):
        (made / name).mkdir()
    sidecar = {
        "v": 1, "run_id": "r", "version": "1", "argv": [], "cwd": "/", "status": "live_status.txt", "options": {}, "contexts": [],
        "host": "h", "pid": 1, "boot_id": "b", "started": 1.0,
        "task_file": {"path": str(made / "home/theirs.txt"), "sha256": "", "size": 1},
    }  # fmt: skip
    for name in ("live.lock", "dead_status.txt", "dead_tasks.txt", "home/live.lock"):
        (made / name).write_text("old")
    for name in ("live_run.json", "home/live_run.json", "dead_run.json"):
        (made / name).write_text(json.dumps(sidecar))
    (made / "home/tasks.txt").write_text("old")
    (made / "home/theirs.txt").write_text("old")
    (made / "tasks.txt").symlink_to("home/tasks.txt")
    (made / "hard.txt").hardlink_to(made / "home/tasks.txt")
    (made / "way").symlink_to("home")
    (made / "run_status.txt").write_text("old")
    return made


@pytest.fixture
def guard(work: Path) -> Guard:
    return Guard({work / "tasks.txt": "the task file of this run"}, [work / "run"])


Move = Callable[..., Any]


@pytest.fixture
def go(work: Path, guard: Guard, moving: Callable[..., Moving], connection: Connection) -> Moving:
    def hosts(location: Location) -> SftpStore:
        return SftpStore(location.where, connection.sftp, "test", digest=connection.sum, lost=(paramiko.SSHException,))

    (work.parent / "src").mkdir()
    return moving(stores=Stores(Settings(work, "test", guard=guard), hosts))


@pytest.fixture
def move(work: Path, go: Moving) -> Move:
    def move(name: str, dest: str | Location, data: str = STRANGE, **more: Any) -> Any:
        source = work.parent / "src" / name
        source.write_text(data)
        return go(str(source), dest, **more)

    return move


def old(folder: Path) -> Iterator[str]:
    for parent, _, found in os.walk(folder):
        yield from (str(Path(parent, name).relative_to(folder)) for name in found if Path(parent, name).read_text() == STRANGE)


@pytest.mark.parametrize(
    ("name", "dest"),
    [
        ("tasks.txt", "./"),  # a link, by its name
        ("tasks.txt", "home/"),  # where it leads
        ("tasks.txt", "way/"),
        ("tasks.txt", "inner/../way/"),
        ("TASKS.TXT", "home/"),
        ("x", "hard.txt"),
        ("run_status.txt", "./"),
        ("Run_Status.txt", "home/../"),
        ("run_manifest.json", "./"),
        ("run_gpu01_12.log", "./"),
        ("run.lock.12.new", "./"),
        ("x", "run_attach.json/sub/"),
        ("live_events.jsonl", "./"),
        ("live_host_3.log", "./"),
        ("theirs.txt", "home/"),  # the task file of a run that goes on
        ("dead_status.txt", "./"),
        ("dead_run.json", "./"),
        ("dead_tasks.txt", "./"),
    ],
)
def test_what_is_refused(move: Move, work: Path, name: str, dest: str) -> None:
    end = move(name, dest)
    assert not end.deliveries
    assert len(end.failures) == 1
    assert "DEST" in end.failures[0].why
    assert end.failures[0].cause == "permanent"
    assert list(old(work)) == []


@pytest.mark.parametrize(
    ("name", "dest"),
    [
        ("tasks.txt", "inner/"),
        ("run_results.txt", "./"),
        ("run_status.txt", "inner/"),  # an archive, where nothing of that name is
        ("other_run.json", "./"),
        ("live_results.csv", "./"),
        ("mine_tasks.txt", "./"),
        ("x", "new/deep/er/"),
    ],
)
def test_what_is_not(move: Move, work: Path, name: str, dest: str) -> None:
    assert len(move(name, dest).deliveries) == 1
    assert list(old(work)) != []


def test_a_folder_of_a_store_is_called_as_a_file_of_the_run(go: Moving, work: Path) -> None:
    for name in ("run_manifest.json/x", "fine/x"):
        (work.parent / "src" / name).parent.mkdir()
        (work.parent / "src" / name).write_text("")
    end = go(f"{work.parent}/src/", "./")
    assert ([each.dest for each in end.deliveries], len(end.failures)) == (["./fine/x"], 1)
    assert not (work / "run_manifest.json").exists()


def test_what_decryption_makes_of_a_name(move: Move, work: Path) -> None:
    change: Any = type(
        "Clear", (), {"recipients": (), "signer": None, "apply": lambda _, chunks, write: [write(data) for data in chunks]}
    )()
    end = move("tasks.txt.gpg", "./", rule=lambda name: Renamed(name.removesuffix(".gpg"), change))
    assert not end.deliveries
    assert list(old(work)) == []


def test_what_this_run_has_delivered_it_may_deliver_anew(move: Move, work: Path) -> None:
    """The status file of a run that is a task, as it grows."""
    assert len(move("inner_status.txt", "inner/", "one").deliveries) == 1
    assert len(move("inner_status.txt", "inner/", "one and two").deliveries) == 1
    (work / "inner" / "inner_status.txt").write_text(RECORD)
    assert not move("inner_status.txt", "inner/", "three").deliveries


def test_names_like_those_of_records(taskrun: Taskrun) -> None:
    """A program may call its results so, and the next run may make them anew."""
    text = (
        "#TASKRUN STAGE-OUT out/* ./\nmkdir -p out; N=NUMBER; "
        """echo $N > out/job_status.txt; echo '{"x": '$N'}' > out/job_run.json; echo '{"y": '$N'}' > out/sim_events.jsonl\n"""
    )
    for number in "12":
        result = taskrun("tasks.txt", "-s", "localhost:1", "-p", f"run{number}", files={"tasks.txt": text.replace("NUMBER", number)})
        assert result.code == 0, result.err
        assert (taskrun.folder / "job_status.txt").read_text() == f"{number}\n"
        assert json.loads((taskrun.folder / "job_run.json").read_text()) == {"x": int(number)}


@pytest.mark.parametrize("kind", ["local", "engine"])
@pytest.mark.parametrize(
    ("name", "there", "spared"),
    [
        ("x_status.txt", RECORD, True),
        ("x_status.txt", "not one\n" + RECORD, True),
        ("x_status.txt", RECORD[:30] + "1" * 9, True),
        ("X_STATUS.TXT", HEADER.decode(), True),
        ("x_status.txt", "all is well\n", False),
        ("x_status.txt", "", False),
        ("x_run.json", '{"v": 1, "name": "x"}', True),
        ("x_run.json", '{\n "name": "x",\n "run_id": "r"}', True),
        ("x_run.json", '{"loss": 0.1}', False),
        ("x_events.jsonl", '{"t":1.5,"kind":"run"}\n', True),
        ("x_events.jsonl", '{"loss": 0.1}\n', False),
    ],
)
def test_a_record_is_known_by_what_it_says(move: Move, work: Path, name: str, there: str, spared: bool, kind: Any) -> None:
    (work / "inner" / name).write_text(there)
    end = move(name, "inner/" if kind == "local" else Location("engine", "host1", f"{work}/inner/"))
    assert bool(end.failures) is spared
    assert list(old(work)) == ([] if spared else [f"inner/{name}"])


@pytest.mark.parametrize("name", ["run_status.txt", "run_manifest.json", "dead_run.json", "dead_tasks.txt", "home/tasks.txt"])
def test_a_host_that_sees_the_folder_under_another_path(move: Move, work: Path, name: str) -> None:
    folder = str((work / name).parent) + "/"
    end = move(Path(name).name, Location("engine", "host1", folder))
    assert not end.deliveries
    assert "DEST" in end.failures[0].why
    assert list(old(work)) == []
    assert len(move("results", Location("engine", "host1", folder)).deliveries) == 1


def test_a_run_that_begins_while_a_file_is_on_its_way(work: Path) -> None:
    """The guard is asked again before the file gets its name."""
    store = Stores(Settings(work, "test", guard=Guard({}, []))).of(Location("local", "", "."))
    writer: Any = store.writer(type("T", (), {"folder": "", "name": "new_status.txt", "path": "new_status.txt"})(), None)  # type: ignore[attr-defined]
    writer.write(b"x")
    (work / "new.lock").write_text("")
    (work / "new_run.json").write_text("")
    with pytest.raises(Exception, match="new, a run that goes on"):
        writer.commit("")
    writer.abandon()
    assert not (work / "new_status.txt").exists()


def test_names_of_a_run() -> None:
    for name in ("run_status.txt", "run_tasks.txt", "run_a_b_1.log", "run.lock", "RUN_dbutil.sh", "run_status.txt.unwritten"):
        assert names.is_of_run("run", name), name
        assert "run" in [each.lower() for each in names.runs_of(name)]
    for name in ("run", "run_", "run_results.txt", "run.txt", "runs_status.txt", "run_1.log"):
        assert not names.is_of_run("run", name), name
