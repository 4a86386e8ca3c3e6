"""What is wrong with the data of a task file is said at its place by `check`, by `--dry-run` and by a run, before anything runs."""

from __future__ import annotations

import pytest
from data.conftest import Bucket, Keys
from harness import Taskrun
from keyring import LAB, LOCKED, PASSPHRASE, PIPE, STRANGER

VERBS = (("check", "tasks.txt"), ("tasks.txt", "--dry-run", "-s", "localhost:1"), ("tasks.txt", "-s", "localhost:1", "-p", "run"))


@pytest.mark.parametrize("verb", VERBS, ids=("check", "dry-run", "run"))
def test_every_mistake_at_its_place(taskrun: Taskrun, gnupg: Keys, verb: tuple[str, ...]) -> None:
    text = (
        "touch ran\n"
        "#TASKRUN STAGE-IN gopher://x in/\n"
        "#TASKRUN STAGE-IN ENGINE s3://UP_/x in/\n"
        "#TASKRUN STAGE-IN TASK in/$TASKRUN_SLOT x\n"
        "#TASKRUN STAGE-IN sftp://me:secret@host/x in/\n"
        "#TASKRUN STAGE-IN x s3://bucket/y\n"
        "#TASKRUN STAGE-OUT s3://bucket/y x\n"
        "#TASKRUN ENCRYPT nobody@example.org\n"
        f"#TASKRUN ENCRYPT {LAB},{STRANGER}\n"
        f"#TASKRUN ENCRYPT {LAB} SIGN nobody@example.org\n"
        "#TASKRUN STAGE-OUT TASK x y\n"
        "#TASKRUN STAGE-OUT TASK x nosuch:y\n"
    )
    result = taskrun(*verb, files={"tasks.txt": text})
    assert result.code == 2
    places = [line.split(" ")[0] for line in result.err.splitlines() if line.startswith("tasks.txt:") and " error: " in line]
    wanted = ["2:19", "4:24", "5:19", "6:21", "7:20"]
    asked = "--dry-run" not in verb  # it starts neither gpg nor rclone
    if asked:
        wanted += ["8:18", f"9:{19 + len(LAB)}", f"10:{24 + len(LAB)}", "12:27"]
    assert [place for place in places if place != "tasks.txt:3:26:"] == [f"tasks.txt:{place}:" for place in wanted], result.err
    programs = ("rclone has no remote nosuch", "no such key to encrypt to", "is not trusted", "no secret key")
    for said in ("no store called gopher://", "TASKRUN_SLOT is not known", *(programs if asked else ())):
        assert said in result.err
    assert "secret@" not in result.err
    assert "me:******@host" in result.err
    assert {path.name for path in taskrun.folder.iterdir()} == {"tasks.txt"}


def test_a_passphrase_that_nobody_can_give(taskrun: Taskrun, gnupg: Keys) -> None:
    text = f"#TASKRUN ENCRYPT {LAB} SIGN {LOCKED}\n#TASKRUN STAGE-OUT TASK x y/\necho > x\n"
    wrong = taskrun.folder / "wrong"
    wrong.write_text("not it")
    wrong.chmod(0o600)
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--passphrase-file", wrong, files={"tasks.txt": text})
    assert result.code == 2
    assert "tasks.txt:1:" in result.err
    assert not (taskrun.folder / "x").exists()
    wrong.chmod(0o644)
    open_to_all = taskrun("check", "tasks.txt", "--passphrase-file", wrong)
    assert open_to_all.code == 2
    assert "chmod 600" in open_to_all.err
    no_config = taskrun("check", "remote.txt", "--rclone-config", "nosuch", files={"remote.txt": "#TASKRUN STAGE-OUT x a:y\n"})
    assert no_config.code == 2
    assert "nosuch: there is no such file" in no_config.err
    right = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", "--passphrase-file", gnupg.home / "pass")
    assert right.code == 0, right.err
    assert (taskrun.folder / "y/x.gpg").exists()
    assert PASSPHRASE not in "".join(path.read_text("utf-8", "replace") for path in taskrun.folder.glob("run_*"))


def test_what_is_right_is_listed(taskrun: Taskrun, bucket: Bucket) -> None:
    text = (
        "#TASKRUN STAGE-IN s3://genomes/a/* a/\n#TASKRUN STAGE-IN ENGINE s3://genomes/b b\n#TASKRUN STAGE-OUT r/* s3://genomes/r/\n"
        "#TASKRUN STAGE-IN TASK s3://genomes/$TASKRUN_TASKID t/\n#TASKRUN STAGE-OUT TASK u s3://genomes/u/\ntrue\n"
    )
    for key in ("a/1", "b"):
        bucket.put(key, b"x")
    checked = taskrun("check", "tasks.txt", files={"tasks.txt": text})
    assert checked.code == 0, checked.err
    assert "line 2: #TASKRUN STAGE-IN ENGINE s3://genomes/b b: 1 file, 1 B\n" in checked.out
    dry = taskrun("tasks.txt", "--dry-run", "-s", "localhost:1")
    assert dry.code == 0
    assert [line.split("\t")[0] for line in dry.out.splitlines()] == ["stage-in", "stage-in", "stage-out", "run", "stage-in", "stage-out"]
    assert bucket.keys() == {"a/1", "b"}


def test_the_key_of_a_signer_whose_files_only_come_in_need_not_be_secret(taskrun: Taskrun, gnupg: Keys, bucket: Bucket) -> None:
    """Known by its fingerprint: an address names a trusted key only, since anybody can write one into a key."""
    fingerprint = gnupg.fingerprints[STRANGER]
    text = f"#TASKRUN ENCRYPT {LAB} SIGN {STRANGER}\n#TASKRUN STAGE-IN s3://genomes/*.gpg in/\ntrue\n"
    named = taskrun("tasks.txt", "-s", "localhost:1", "-p", "named", files={"tasks.txt": text})
    assert named.code == 2
    assert f"SIGN {STRANGER}: the key {fingerprint} is not trusted" in named.err
    text = text.replace(f"SIGN {STRANGER}", f"SIGN {fingerprint}")
    taskrun.write({"clear": "x"})
    for name, signer in (("good", STRANGER), ("bad", PIPE)):
        sealed = taskrun.folder / f"{name}.gpg"
        gnupg.gpg(
            "--yes", "--trust-model", "always", "-r", LAB, "-s", "-u", f"<{signer}>", "-o", str(sealed), "-e", str(taskrun.folder / "clear")
        )
    bucket.put("good.gpg", (taskrun.folder / "good.gpg").read_bytes())
    result = taskrun("tasks.txt", "-s", "localhost:1", "-p", "run", files={"tasks.txt": text})
    assert result.code == 0, result.err
    assert (taskrun.folder / "in/good").read_text() == "x"
    bucket.put("bad.gpg", (taskrun.folder / "bad.gpg").read_bytes())
    refused = taskrun("tasks.txt", "-s", "localhost:1", "-p", "two")
    assert refused.code == 3
    assert f"it is not signed by {fingerprint}" in refused.err
    assert not (taskrun.folder / "in/bad").exists()
