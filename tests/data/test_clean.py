"""--clean: the table of the issue, row by row; nothing goes that is not safe elsewhere; disks that are full."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from data.conftest import WORKDIR, Bucket, Far, Keys, manifest, moved
from harness import Taskrun, cannot, until
from keyring import LAB

TEXT = f"""\
#TASKRUN STAGE-IN s3://genomes/in/ in/
#TASKRUN STAGE-OUT plain.txt s3://genomes/out/
#TASKRUN ENCRYPT {LAB}
#TASKRUN STAGE-OUT secret.txt s3://genomes/out/
#TASKRUN STAGE-OUT made.gpg s3://genomes/kept/
#TASKRUN ENCRYPT OFF
echo p > plain.txt; echo s > secret.txt; echo not-really > made.gpg; echo clear > made; echo o > other.txt; cat in/* > /dev/null
"""
RECORDS = {"run_status.txt", "run_run.json", "run_events.jsonl", "run_manifest.json", "run_driver.log"}
INPUTS, OUTPUTS = {"in/a", "in/b"}, {"plain.txt", "secret.txt"}
GONE = {
    "keep": set(),
    "output": INPUTS | OUTPUTS | {"made.gpg"},
    "encrypted": INPUTS | OUTPUTS | {"made", "other.txt"},  # .gpg stay, and what may be cleartext of one goes
    "all": INPUTS | OUTPUTS | {"made.gpg", "made", "other.txt"},
}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def seal(gnupg: Keys, folder: Path) -> bytes:
    (folder / "clear").write_text("b")
    gnupg.gpg("--yes", "--trust-model", "always", "-r", LAB, "-o", str(folder / "sealed"), "-e", str(folder / "clear"))
    return (folder / "sealed").read_bytes()


@pytest.mark.parametrize(
    ("mode", "killed"), [("keep", True), ("output", True), ("encrypted", False), ("encrypted", True), ("all", False), ("all", True)]
)
def test_the_table(
    taskrun: Taskrun, bucket: Bucket, gnupg: Keys, mode: str, killed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also when most was done by a run whose driver was killed: what that has made is the run's, too."""
    bucket.put("in/a", b"a")
    bucket.put("in/b.gpg", seal(gnupg, tmp_path_factory.mktemp("seal")))
    taskrun.write({"mine.txt": "older than the run"})
    os.utime(taskrun.folder / "mine.txt", (1, 1))
    text = TEXT + ("until [ -e mine.txt.go ]; do sleep 0.1; done\n" if killed else "")
    flags = ("--settle", "0", "--clean", mode)
    names = {"mine.txt", "tasks.txt"} | RECORDS
    if killed:
        running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", *flags, files={"tasks.txt": text})
        until(lambda: (taskrun.folder / "other.txt").exists() and bucket.keys("out/"), 30, "the first task")
        os.kill(running.pid, signal.SIGKILL)
        running.process.wait()
        taskrun.write({"mine.txt.go": ""})
        os.utime(taskrun.folder / "mine.txt.go", (1, 1))
        result = taskrun("-r", "run_status.txt", "-p", "again", "-s", "localhost:1", *flags)
        names |= {"mine.txt.go", *(name.replace("run_", "again_", 1) for name in RECORDS)}
        names -= {"run_manifest.json"}
    else:
        result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", *flags, files={"tasks.txt": text})
    assert result.code == 0, result.err
    names |= {"run_before.jsonl"} if mode in ("encrypted", "all") else set()
    every = INPUTS | OUTPUTS | {"made.gpg", "made", "other.txt"} | names
    found = files(taskrun.folder)
    assert {name for name in found if not name.endswith((".log", ".lock"))} == {
        name for name in every - GONE[mode] if not name.endswith(".log")
    }
    assert bucket.keys("out/") | bucket.keys("kept/") == {"out/plain.txt", "out/secret.txt.gpg", "kept/made.gpg.gpg"}
    assert len(manifest(result)["outputs"]) == 3


def test_it_is_listed_first_and_nothing_goes_that_is_not_safe(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/a", b"a")
    bucket.put("in/b", b"b")
    text = "#TASKRUN STAGE-IN s3://genomes/in/ in/\n#TASKRUN STAGE-OUT out* s3://genomes/out/\n"
    text += "echo 1 > out1; echo 2 > out2; echo more >> in/b\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--settle", "0", files={"tasks.txt": text})
    assert result.code == 0, result.err
    bucket.put("out/out2", b"somebody's")
    listed = taskrun("tasks.txt", "--dry-run", "--clean", "output", "-r", "run_status.txt", "-s", "localhost:1")
    assert listed.code == 0, listed.err
    rows = [line.split("\t") for line in listed.out.splitlines()]
    assert sorted((row[0], row[5]) for row in rows if row[0] in ("remove", "keep")) == [
        ("keep", "in/b"), ("remove", "in/a"), ("remove", "out1"), ("remove", "out2"),
    ]  # fmt: skip
    assert "s3://genomes/: not asked in a dry run: a run keeps what is not there, whole" in listed.err
    assert {"in/a", "in/b", "out1", "out2"} <= files(taskrun.folder)
    again = taskrun("tasks.txt", "-r", "run_status.txt", "-p", "again", "--clean", "output", "--settle", "0")
    assert again.code == 0, again.err
    assert moved(again, "out") == ["s3://genomes/out/out2"]  # what is at its destination is not what was delivered: delivered again
    assert files(taskrun.folder) & {"in/a", "in/b", "out1", "out2"} == {"in/b"}
    assert "in/b is kept: it has changed since it was fetched" in again.err
    assert bucket.get("out/out2") == b"2\n"
    hint = taskrun("tasks.txt", "--dry-run", "--clean", "all", "-s", "localhost:1")
    assert "add -r STATUS" in hint.err


def test_outputs_stay_at_a_destination_in_the_working_directory(taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A DEST here, one that is the very file, by a link too, inputs that were there before, named twice, another run: all were removed."""
    ref = tmp_path_factory.mktemp("ref")
    (ref / "a").write_text("mine")
    taskrun.write({"in/a": "mine", "sub/run_run.json": "another run's"})
    text = (
        "#TASKRUN STAGE-OUT results/*.vcf delivered/\n#TASKRUN STAGE-OUT same/* same/\n#TASKRUN STAGE-OUT linked/* link/\n"
        f"#TASKRUN STAGE-IN TASK {ref}/* in/\n"
        "mkdir results same linked; ln -s linked link; echo > sub/run_status.txt\n#TASKRUN BARRIER\n"
        "for f in results/x.vcf same/y linked/z; do echo precious > $f; done\n"
    )
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--settle", "0", "--clean", "all", files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert {name for name in files(taskrun.folder) if "/" in name} == {
        "delivered/x.vcf", "same/y", "linked/z", "in/a", "sub/run_run.json", "sub/run_status.txt",
    }  # fmt: skip
    assert "in/a is kept: it was there before the run" in result.err


def test_hosts_are_cleaned_too(far: Far, bucket: Bucket) -> None:
    bucket.put("in/0", b"x")
    bucket.put("in/1", b"y")
    (far.folder(1) / "mine").write_text("older")
    os.utime(far.folder(1) / "mine", (1, 1))
    text = (
        "#TASKRUN STAGE-IN TASK s3://genomes/in/$TASKRUN_TASKID in/\n#TASKRUN STAGE-OUT TASK out.$TASKRUN_TASKID s3://genomes/out/\n"
        "#TASKRUN REPEAT 2 sleep 0.5; cp in/$TASKRUN_TASKID out.$TASKRUN_TASKID; touch other.$TASKRUN_TASKID; touch .hidden\n"
    )
    result = far(text, "--clean", "all", where="host1:1,host2:1")
    assert result.code == 0, result.err
    assert bucket.keys("out/") == {"out/out.0", "out/out.1"}
    assert files(far.folder(1)) | files(far.folder(2)) == {"mine", ".hidden"}, result.err


@pytest.fixture
def small(taskrun: Taskrun) -> Iterator[Path]:
    """A file system of 8 MB in the working directory."""
    folder = taskrun.folder / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], stderr=subprocess.DEVNULL, check=False).returncode:
        cannot("a small file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_that_is_too_small(taskrun: Taskrun, bucket: Bucket, small: Path) -> None:
    bucket.put("in/big", bytes(5 << 20))
    text = "#TASKRUN STAGE-IN s3://genomes/in/big small/\ntouch ran\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert result.code == 3
    assert "iB are missing there for s3://genomes/in/big times 2" in result.err
    assert os.listdir(small) == []
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "fits", "--workfactor", "1.2", files={"tasks.txt": text})
    assert result.code == 0, result.err
    text = "#TASKRUN STAGE-OUT TASK out small/out\nhead -c 6000000 /dev/zero > out\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "full", files={"tasks.txt": text})
    assert result.records()[0]["ReturnCode"] == 74
    assert os.listdir(small) == ["big"]


def test_a_host_s_disk_that_is_too_small(far: Far, bucket: Bucket) -> None:
    """Before a byte of it has gone, for what every engine is to have and for what a task is to have."""
    bucket.put("in/big", bytes(5 << 20))
    (far.folder(1) / "small").mkdir()
    far.hosts.exec(1, "mount", "-t", "tmpfs", "-o", "size=8m", "none", f"{WORKDIR}/small")
    try:
        text = "#TASKRUN STAGE-IN TASK s3://genomes/in/big small/new/\ntouch ran\n"
        result = far(text, where="host1:1")
        assert result.records()[0]["ReturnCode"] == 74
        assert re.search(r"small/new/: [\d.]+ [MK]iB are missing", result.err)
        assert far.hosts.exec(1, "ls", "-A", f"{WORKDIR}/small").stdout == ""
        result = far(text, "--workfactor", "1.2", where="host1:1", prefix="fits")
        assert result.code == 0, result.err
        result = far(text.replace("IN TASK", "IN ENGINE").replace("new/", "more/"), where="host1:1", prefix="full")
        assert result.code == 2
        assert "iB are missing there for s3://genomes/in/big times 2" in result.err
    finally:
        far.hosts.exec(1, "umount", f"{WORKDIR}/small")


def test_a_disk_that_fills_up_is_said(taskrun: Taskrun, small: Path) -> None:
    text = "#TASKRUN STAGE-IN TASK /dev/null in/\n#TASKRUN STAGE-IN TASK OFF\nhead -c 7700000 /dev/zero > fill; sleep 6\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "../run", files={"small/tasks.txt": text}, cwd=small)
    assert result.code == 0, result.err
    assert "KiB are free; what does not fit there fails" in result.err


def test_a_host_s_disk_that_fills_up_is_said(far: Far, bucket: Bucket) -> None:
    """While tasks run there, by the signs of life of its agent: once, and by the name of the host."""
    far.hosts.exec(1, "mount", "-t", "tmpfs", "-o", "size=8m", "none", WORKDIR)
    try:
        text = "#TASKRUN STAGE-OUT TASK fill s3://genomes/out/$TASKRUN_REPEAT_INDEX\n"
        text += "#TASKRUN REPEAT 2 head -c 7700000 /dev/zero > fill; until [ -e /srv/go ]; do sleep 0.1; done\n"
        running = far.start(text, "--lost-after", "5", where="host1:1,host2:1")
        said = re.compile(rf"host1:{WORKDIR}: only \S+ KiB are free; what does not fit there fails")
        until(lambda: said.search(running.said()[1]), 30, "the warning")
        for k in (1, 2):
            far.hosts.path(k, "/srv/go").touch()
        result = running.finish(30)
    finally:
        far.hosts.exec(1, "umount", "-l", WORKDIR)
    assert result.code == 0, result.err
    assert len(said.findall(result.err)) == 1
    assert f"host2:{WORKDIR}" not in result.err
    assert bucket.keys("out/") == {"out/0", "out/1"}
