"""Data of a run on this machine: fetched before tasks start, delivered when they have ended, said when it cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from data.conftest import Bucket, Keys, manifest, moved
from harness import Taskrun, until
from keyring import LAB, PIPE

HERE = ("-s", "localhost:2", "-p", "run", "--settle", "0.3")
EXAMPLE = f"""\
#TASKRUN STAGE-IN s3://genomes/panel/*.fa.gpg ref/
#TASKRUN ENCRYPT {LAB} SIGN {PIPE}
#TASKRUN STAGE-OUT results/*.vcf s3://genomes/calls/
#TASKRUN STAGE-IN TASK s3://genomes/samples/${{TASKRUN_REPEAT_INDEX}}.bam work/
#TASKRUN REPEAT 5 ./call.sh work/${{TASKRUN_REPEAT_INDEX}}.bam
"""
CALL = """\
#!/bin/sh
mkdir -p results; name=$(basename "$1" .bam)
cat ref/panel.fa "$1" > results/.$name && mv results/.$name results/$name.vcf
"""


def test_the_example_of_the_issue(taskrun: Taskrun, bucket: Bucket, gnupg: Keys, tmp_path: Path) -> None:
    (tmp_path / "panel").write_text("PANEL ")
    gnupg.gpg("--yes", "--trust-model", "always", "-r", LAB, "-o", str(tmp_path / "sealed"), "-e", str(tmp_path / "panel"))
    bucket.put("panel/panel.fa.gpg", (tmp_path / "sealed").read_bytes())
    for number in range(5):
        bucket.put(f"samples/{number}.bam", b"sample %d" % number)
    taskrun.write({"call.sh": CALL})
    (tmp_path / "call.sh").chmod(0o755)
    result = taskrun("tasks.txt", *HERE, files={"tasks.txt": EXAMPLE}, timeout=50)
    assert result.code == 0, result.err
    assert {record["ReturnCode"] for record in result.records()} == {0}
    assert (tmp_path / "ref/panel.fa").read_text() == "PANEL "
    assert not (tmp_path / "ref/panel.fa.gpg").exists()
    assert bucket.keys("calls/") == {f"calls/{number}.vcf.gpg" for number in range(5)}
    for number in range(5):
        (tmp_path / "back").write_bytes(bucket.get(f"calls/{number}.vcf.gpg"))
        said = gnupg.gpg("--status-fd", "1", "-o", "-", "-d", str(tmp_path / "back"))
        assert f"PANEL sample {number}" in said
        assert f"VALIDSIG {gnupg.fingerprints[PIPE]}" in said
    found = manifest(result)
    assert sorted(each["dest"] for each in found["inputs"]) == ["ref/panel.fa", *(f"work/{number}.bam" for number in range(5))]
    assert {each["signer"] for each in found["outputs"]} == {gnupg.fingerprints[PIPE]}
    assert {each["verified"] for each in found["outputs"]} <= {"sha256", "md5"}
    assert found["counts"] == {"done": 5, "failed": 0, "skipped": 0}
    assert "6 files fetched, 5 files delivered" in result.err
    assert os.listdir(taskrun.env["TMPDIR"]) == []


def test_a_stage_in_that_fails_keeps_the_line_from_starting(taskrun: Taskrun, bucket: Bucket) -> None:
    bucket.put("in/1", b"one")
    text = "#TASKRUN STAGE-IN TASK s3://genomes/in/$TASKRUN_REPEAT_INDEX w/\n#TASKRUN REPEAT 2 touch ran.$TASKRUN_REPEAT_INDEX\n"
    result = taskrun("tasks.txt", *HERE, "-e", files={"tasks.txt": text})
    assert result.code == 1
    (failed,) = [each for each in result.records() if each["ReturnCode"]]
    assert (failed["Flags"], failed["RepeatIndex"], failed["ReturnCode"], failed["PID"]) == ("R E ", 0, 74, -1)
    assert "s3://genomes/in/0: there is no such file" in failed["ErrorSnippet"]
    assert not (taskrun.folder / "ran.0").exists()
    assert (taskrun.folder / "ran.1").exists()
    assert [each["cause"] for each in result.events("attempt") if each["code"]] == ["stage-in"]
    bucket.put("in/0", b"zero")
    again = taskrun("-r", "run_status.txt", "-R", "-s", "localhost:2", "-p", "again")
    assert again.code == 0, again.err
    assert moved(again, "in") == ["w/0"]


def test_a_stage_in_of_the_run_that_fails_stops_it(taskrun: Taskrun, bucket: Bucket) -> None:
    text = "touch above\n#TASKRUN STAGE-IN s3://genomes/none/* in/\ntouch below\n"
    result = taskrun("tasks.txt", *HERE, files={"tasks.txt": text})
    assert result.code == 3
    assert "line 2: s3://genomes/none/*: nothing matches; the tasks below are not started" in result.err
    assert not (taskrun.folder / "below").exists()
    bucket.put("none/x", b"x")
    assert taskrun("-r", "run_status.txt", "-p", "again").code == 0
    assert (taskrun.folder / "above").exists()  # which may have started before the list came, or not
    assert (taskrun.folder / "below").exists()


def test_a_stage_out_that_fails_fails_its_task(taskrun: Taskrun, bucket: Bucket) -> None:
    text = "#TASKRUN STAGE-OUT TASK out.$TASKRUN_TASKID s3://genomes/out/\necho x > out.0\ntrue\nexit 5\n"
    result = taskrun("tasks.txt", *HERE, files={"tasks.txt": text})
    records = {each["TaskID"]: each for each in result.records()}
    assert [records[k]["ReturnCode"] for k in range(3)] == [0, 74, 5]
    assert "out.1: there is no such file" in records[1]["ErrorSnippet"]
    assert bucket.keys("out/") == {"out/out.0"}
    nowhere = taskrun(
        "tasks.txt", *HERE[:2], "-p", "no", files={"tasks.txt": f"#TASKRUN STAGE-OUT TASK x s3://no-bucket/{'y' * 60}/\necho > x\n"}
    )
    assert nowhere.records()[0]["ReturnCode"] == 74
    assert "no-bucket" in nowhere.records()[0]["ErrorSnippet"]
    assert "x: there is no bucket no-bucket" in nowhere.err  # all of the reason


def test_a_bucket_that_is_not_there_yet(taskrun: Taskrun, bucket: Bucket) -> None:
    """Said at once, not when all is computed; made later it is delivered to."""
    text = "#TASKRUN STAGE-OUT out/* s3://later/calls/\nmkdir out; echo done > out/a; until test -e go; do sleep 0.1; done\n"
    running = taskrun.start("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    log = taskrun.folder / "run_driver.log"
    word = "nothing can be delivered now: s3://later/calls/: there is no bucket later"
    until(lambda: log.exists() and word in log.read_text(), what="the word")
    (taskrun.folder / "go").touch()
    result = running.finish(60)
    assert result.code == 3, result.err
    assert "out/a was not delivered: s3://later/calls/a: there is no bucket later" in result.err
    assert result.err.endswith("deliver what is left: taskrun -r run_status.txt\n")
    bucket.client.create_bucket(Bucket="later")
    result = taskrun("-r", "run_status.txt", "-p", "again")
    assert (result.code, "later" in result.err) == (0, False), result.err
    assert bucket.client.get_object(Bucket="later", Key="calls/a")["Body"].read() == b"done\n"


def test_odd_names_and_destinations(taskrun: Taskrun, bucket: Bucket, remote: tuple[Path, Path]) -> None:
    config, disk = remote
    odd = ["two words", "-rf", "ünï", "new\nline", "a[1]*?", "$HOME;x"]
    for name in odd:
        bucket.put(f"odd/deep/{name}", name.encode())
    text = (
        "#TASKRUN STAGE-IN s3://genomes/odd/ 'my in/'\n"
        "#TASKRUN STAGE-IN 's3://genomes/odd/deep/two words' \"one file\"\n"
        "#TASKRUN STAGE-OUT 'my in/' disk:sub/tree\n"
        "#TASKRUN STAGE-OUT 'one file' disk:renamed\n"
        "#TASKRUN FOREACH 'my in'/*/* cp {} {}.copy\n"
    )
    taskrun.write({f"my in/deep/{name}": name for name in odd if "\n" not in name})  # FOREACH looks before anything is fetched
    result = taskrun("tasks.txt", *HERE, "--rclone-config", config, files={"tasks.txt": text})
    assert result.code == 0, result.err
    for name in odd:
        assert (disk / "sub/tree/deep" / name).read_text() == name
        if "\n" not in name:
            assert (disk / "sub/tree/deep" / f"{name}.copy").read_text() == name
    assert (disk / "renamed").read_text() == "two words"
    assert {each["how"] for each in manifest(result)["inputs"]} == {"moved", "identical"}


def test_outputs_are_shipped_while_tasks_run(taskrun: Taskrun, bucket: Bucket) -> None:
    text = (
        "#TASKRUN STAGE-OUT res/* s3://genomes/res/\n"
        "mkdir -p res; echo whole > res/.x; mv res/.x res/x; "
        "exec 9> res/open; echo part >&9; until [ -e go ]; do sleep 0.1; done; echo end >&9\n"
    )
    running = taskrun.start("tasks.txt", *HERE, files={"tasks.txt": text})
    until(lambda: bucket.keys("res/"), 20, "an output")
    until(lambda: len(list(taskrun.folder.glob("res/*"))) == 2)
    assert bucket.keys("res/") == {"res/x"}  # the other one is open
    (taskrun.folder / "go").touch()
    result = running.finish()
    assert result.code == 0, result.err
    assert (bucket.get("res/x"), bucket.get("res/open")) == (b"whole\n", b"part\nend\n")
    assert sorted(moved(result, "out")) == ["s3://genomes/res/open", "s3://genomes/res/x"]


def test_what_was_delivered_is_not_delivered_again(taskrun: Taskrun, gnupg: Keys) -> None:
    """A DEST that the PATTERN matches: it went deeper and deeper, and was encrypted again and again."""
    text = (
        f"#TASKRUN STAGE-OUT out/ out/copy/\n#TASKRUN ENCRYPT {LAB}\n#TASKRUN STAGE-OUT results/* {taskrun.folder}/results/\n"
        "#TASKRUN STAGE-OUT TASK each/* each/\nmkdir -p out results each; echo > out/x; echo > results/x; echo > each/x\n"
        "until [ -e out/copy/x ] && [ -e results/x.gpg ]; do sleep 0.1; done; rm results/x; sleep 2.5; echo > each/y\ncat no\n"
    )
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--settle", "0.3", files={"tasks.txt": text})
    again = taskrun("-r", "run_status.txt", "-R", "-p", "again", "-s", "localhost:1", "--settle", "0")
    assert (result.code, again.code) == (0, 0), result.err + again.err
    found = {str(path.relative_to(taskrun.folder)) for path in taskrun.folder.rglob("*/*") if path.is_file()}
    assert found - {"p"} == {"out/x", "out/copy/x", "results/x.gpg", "each/x", "each/x.gpg", "each/y", "each/y.gpg"}


def test_files_of_a_run_that_goes_on_match_no_glob(taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> None:
    """They grow with each delivery, and PREFIX_attach.json has the secrets of the run."""
    out = tmp_path_factory.mktemp("out")
    text = f"#TASKRUN STAGE-OUT * {out}/run/\n#TASKRUN STAGE-OUT TASK ./ {out}/task/\nuntil [ -e run_attach.json ]; do sleep 0.1; done\n"
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--settle", "0", files={"tasks.txt": text + "echo > run_mine.txt\n"})
    assert result.code == 0, result.err
    for way in ("run", "task"):
        assert {name for name in os.listdir(out / way) if not name.endswith(".log")} - {"tmp"} == {"tasks.txt", "run_mine.txt"}


def test_a_stream(taskrun: Taskrun, bucket: Bucket, gnupg: Keys) -> None:
    bucket.put("in/x", b"x")
    text = (
        b"#TASKRUN STAGE-IN s3://genomes/in/* in/\n#TASKRUN STAGE-OUT out/* s3://genomes/out/\n"
        b"#TASKRUN STAGE-IN TASK s3://genomes/in/x t/$TASKRUN_TASKID/\n"
        b"mkdir -p out; cat in/x t/0/x > out/x\n#TASKRUN STAGE-IN TASK OFF\ntest ! -e t/1\n"
    )
    result = taskrun("-", *HERE, stdin=text)
    assert result.code == 0, result.err
    assert [each["ReturnCode"] for each in result.records()] == [0, 0]
    assert bucket.get("out/x") == b"xx"
    bad = taskrun("-", *HERE[:2], "-p", "bad", stdin=b"#TASKRUN STAGE-IN gopher://x y\ntrue\n")
    assert bad.code == 2
    assert "line 1" in bad.err
    assert "gopher" in bad.err
    assert not bad.path("status.txt").exists()


def test_a_stream_that_goes_wrong_in_the_middle(taskrun: Taskrun) -> None:
    running = taskrun.start("-", *HERE, stdin=-1)
    assert running.process.stdin is not None
    running.process.stdin.write(b"touch first\n")
    running.process.stdin.flush()
    until((taskrun.folder / "first").exists, what="the first task")
    running.process.stdin.write(b"#TASKRUN STAGE-IN gopher://x y\ntouch second\n")
    running.process.stdin.flush()
    result = running.finish()
    assert result.code == 3, result.err
    assert "gopher" in result.err
    assert len(result.records()) == 1
    assert not (taskrun.folder / "second").exists()
