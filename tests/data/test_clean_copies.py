"""--clean removes no file that is the only copy, whatever name a server, a remote or a mount gives it. Each case once lost data."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from data.conftest import Bucket, Keys, manifest
from harness import Result, Taskrun, cannot, need, until
from keyring import LAB

MAKE = "mkdir -p results; echo precious > results/x.txt; echo more > results/y.txt\n"


def run(taskrun: Taskrun, text: str, *flags: str | Path, prefix: str = "run", cwd: Path | None = None, **files: str) -> Result:
    return taskrun(
        "tasks.txt",
        "-s",
        "localhost:1",
        "-p",
        prefix,
        "--settle",
        "0",
        *flags,
        files={"tasks.txt": text, **files},
        cwd=cwd or taskrun.folder,
    )


def remotes(taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Remotes of rclone that lead back into the working directory: `here:` as it is, `veiled:` under other names, with other content."""
    need("rclone")
    word = subprocess.run(["rclone", "obscure", "secret"], check=True, capture_output=True, text=True).stdout.strip()
    path = tmp_path_factory.mktemp("rclone") / "rclone.conf"
    path.write_text(
        f"[here]\ntype = alias\nremote = {taskrun.folder}\n[veiled]\ntype = crypt\nremote = {taskrun.folder}/enc\npassword = {word}\n"
    )
    return path


@pytest.mark.parametrize("mode", ["output", "all"])
@pytest.mark.parametrize("how", ["identical", "moved"])
def test_a_remote_that_is_this_directory(taskrun: Taskrun, mode: str, how: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`moved`: at the first look the files are not there yet, since they are made as they are delivered."""
    config = remotes(taskrun, tmp_path_factory)
    line = "#TASKRUN STAGE-OUT results/*.txt here:results/\n" if how == "identical" else "#TASKRUN STAGE-OUT *.txt here:linked/\n"
    if how == "moved":
        (taskrun.folder / "linked").symlink_to(".")
    text = line + (MAKE if how == "identical" else "echo precious > x.txt; echo more > y.txt\n")
    result = run(taskrun, text, "--clean", mode, "--rclone-config", config)
    where = taskrun.folder / ("results" if how == "identical" else ".")
    assert (where / "x.txt").read_text() == "precious\n", result.err
    assert (where / "y.txt").read_text() == "more\n"
    assert "x.txt is kept: " in result.err
    assert "by another name" in result.err
    assert not list(taskrun.folder.rglob(".taskrun-*"))


def test_a_server_that_has_this_directory(taskrun: Taskrun, box: str) -> None:
    result = run(taskrun, f"#TASKRUN STAGE-OUT results/*.txt {box}{taskrun.folder}/results/\n{MAKE}", "--clean", "output")
    assert (taskrun.folder / "results/x.txt").read_text() == "precious\n", result.err
    assert (taskrun.folder / "results/y.txt").read_text() == "more\n"
    assert "by another name" in result.err


def test_copies_in_this_directory_by_other_ways_stay(
    taskrun: Taskrun, box: str, gnupg: Keys, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Also encrypted ones, and those of which not even the names are known here."""
    here = taskrun.folder
    config = remotes(taskrun, tmp_path_factory)
    text = (
        f"#TASKRUN STAGE-OUT *.csv {box}{here}/out/\n#TASKRUN STAGE-OUT *.tab veiled:\n"
        f"#TASKRUN ENCRYPT {LAB}\n#TASKRUN STAGE-OUT *.dat {box}{here}/out/\n"
        "echo 1 > a.csv; echo 2 > b.dat; echo 3 > c.tab; echo 4 > other\n"
    )
    result = run(taskrun, text, "--clean", "all", "--rclone-config", config)
    assert result.code == 0, result.err
    assert {path.name for path in (here / "out").iterdir()} == {"a.csv", "b.dat.gpg"}
    assert len(list((here / "enc").iterdir())) == 1
    assert not list(here.rglob(".taskrun-*"))


def test_a_mount_of_this_directory(taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> None:
    mount = tmp_path_factory.mktemp("mount")
    (taskrun.folder / "results").mkdir()
    (taskrun.folder / "results/x.txt").write_text("old")
    if subprocess.run(["mount", "--bind", taskrun.folder, mount], stderr=subprocess.DEVNULL, check=False).returncode:
        cannot("nothing can be mounted here")
    try:
        text = (
            f"#TASKRUN STAGE-OUT results/*.txt {mount}/results/\n#TASKRUN STAGE-OUT *.csv {mount}/copy/\n{MAKE.strip()}; echo 1 > a.csv\n"
        )
        result = run(taskrun, text, "--clean", "all")
        assert (taskrun.folder / "results/x.txt").read_text() == "precious\n", result.err
        assert (taskrun.folder / "copy/a.csv").read_text() == "1\n"
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


@pytest.mark.parametrize("what", ["gone", "changed"])
def test_inputs_whose_source_is_not_there_any_more_stay(taskrun: Taskrun, bucket: Bucket, what: str) -> None:
    bucket.put("in/a", b"a")
    bucket.put("in/b", b"b")
    text = "#TASKRUN STAGE-IN s3://genomes/in/ in/\nuntil [ -e go ]; do sleep 0.05; done\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", "--clean", "output", files={"tasks.txt": text})
    until(lambda: (taskrun.folder / "in/b").exists() and (taskrun.folder / "in/a").exists(), 30, "the inputs")
    if what == "gone":
        bucket.client.delete_object(Bucket="genomes", Key="in/a")
    else:
        bucket.put("in/a", b"z")
    (taskrun.folder / "go").touch()
    result = running.finish(30)
    assert result.code == 0, result.err
    assert (taskrun.folder / "in/a").read_text() == "a"
    assert not (taskrun.folder / "in/b").exists()
    assert f"in/a is kept: s3://genomes/in/a {'is not there' if what == 'gone' else 'is another version'}" in result.err


def test_an_output_whose_copy_has_gone_stays(taskrun: Taskrun, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-OUT *.dat s3://genomes/out/\necho 1 > a.dat; echo 2 > b.dat; until [ -e go ]; do sleep 0.05; done\n"
    flags = ("-s", "localhost:1", "-p", "run", "--settle", "0", "--clean", "output")
    running = taskrun.start("tasks.txt", *flags, files={"tasks.txt": text})
    until(lambda: bucket.keys("out/") == {"out/a.dat", "out/b.dat"}, 30, "the outputs")
    bucket.client.delete_object(Bucket="genomes", Key="out/a.dat")
    (taskrun.folder / "go").touch()
    result = running.finish(30)
    assert result.code == 0, result.err
    assert (taskrun.folder / "a.dat").read_text() == "1\n"
    assert not (taskrun.folder / "b.dat").exists()
    assert "a.dat is kept: s3://genomes/out/a.dat is not there" in result.err


def test_a_copy_that_had_gone_before_is_no_alarm(taskrun: Taskrun, box: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Of a content that the file has no more: somebody has removed it, not --clean."""
    far = tmp_path_factory.mktemp("far")
    text = f"#TASKRUN STAGE-OUT a.dat {box}{far}/{{}}\necho {{}} > a.dat\n"
    first = run(taskrun, text.format("one", 1))
    assert first.code == 0, first.err
    (far / "one").unlink()
    second = text.format("two", 2) + f"#TASKRUN STAGE-OUT none.dat {box}{far}/one\n"
    result = run(taskrun, second, "-r", "run_status.txt", "--match", "command", "--clean", "output", prefix="again")
    assert result.code == 0, result.err
    assert "not there any more" not in result.err
    assert not (taskrun.folder / "a.dat").exists()


def test_a_change_that_hides_its_time(taskrun: Taskrun, bucket: Bucket) -> None:
    """`touch -r`: only the time of the inode's change tells."""
    text = "#TASKRUN STAGE-OUT x.txt s3://genomes/out/\necho 1 > x.txt; until [ -e go ]; do sleep 0.05; done; cp -p x.txt ref\n"
    text = text.replace("cp -p x.txt ref", "touch -r x.txt ref; echo 2 > x.txt; touch -r ref x.txt")
    flags = ("-s", "localhost:1", "-p", "run", "--settle", "0", "--clean", "output")
    running = taskrun.start("tasks.txt", *flags, files={"tasks.txt": text})
    until(lambda: bucket.keys("out/") == {"out/x.txt"}, 30, "the output")
    (taskrun.folder / "go").touch()
    result = running.finish(30)
    assert result.code == 0, result.err
    assert bucket.get("out/x.txt") == b"2\n"
    assert len(manifest(result)["outputs"]) == 1
