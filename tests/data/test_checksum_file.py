"""--checksum-file: SHA256SUMS beside outputs, and inputs verified by theirs."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest
from data.conftest import Bucket, Keys
from harness import Taskrun
from hypothesis import given
from hypothesis import strategies as st
from keyring import LAB

from taskrun.staging.checksum_file import parse, text_of

FLAGS = ("-s", "localhost:1", "--settle", "0", "--checksum-file")


def sums(text: bytes) -> dict[str, str]:
    return parse(text)


def test_beside_what_was_delivered(taskrun: Taskrun, bucket: Bucket, gnupg: Keys, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    bucket.put("out/SHA256SUMS", b"0" * 64 + b"  theirs\n")
    text = (
        f"#TASKRUN STAGE-OUT res/** {out}/\n#TASKRUN STAGE-OUT TASK x.dat s3://genomes/out/\n"
        f"#TASKRUN ENCRYPT {LAB}\n#TASKRUN STAGE-OUT TASK s.dat s3://genomes/out/\n"
        "mkdir -p res/sub; echo 1 > res/a; echo 2 > $'res/sub/b\\nc\\\\d'; echo 3 | tee x.dat > s.dat\n"
    )
    result = taskrun("tasks.txt", *FLAGS, "-p", "run", files={"tasks.txt": text})
    assert result.code == 0, result.err
    for folder in (out, out / "sub"):
        checked = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr
    found = sums(bucket.get("out/SHA256SUMS"))
    assert found.pop("theirs") == "0" * 64
    assert found == {name: hashlib.sha256(bucket.get(f"out/{name}")).hexdigest() for name in ("x.dat", "s.dat.gpg")}


def test_what_is_fetched_is_verified(taskrun: Taskrun, bucket: Bucket) -> None:
    right = hashlib.sha256(b"right").hexdigest()
    bucket.put("in/SHA256SUMS", f"{right}  a\n{right} *b\n".encode())
    bucket.put("in/a", b"right")
    bucket.put("in/unlisted", b"any")
    text = "#TASKRUN STAGE-IN s3://genomes/in/ in/\ntrue\n"
    result = taskrun("tasks.txt", *FLAGS, "-p", "run", files={"tasks.txt": text})
    assert result.code == 0, result.err
    bucket.put("in/b", b"wrong")
    wrong = taskrun("tasks.txt", *FLAGS, "-p", "wrong")
    assert wrong.code == 3
    assert "s3://genomes/in/b: its sha256 is " in wrong.err
    assert "not what its SHA256SUMS says" in wrong.err
    assert not (taskrun.folder / "in/b").exists()
    (taskrun.folder / "in/b").write_text("wrong")
    again = taskrun("tasks.txt", *FLAGS, "-p", "again")
    assert again.code == 3, "what is there already with the wrong content is no input either"


def test_a_directory_that_cannot_be_written_to(taskrun: Taskrun, tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("out")
    (out / "SHA256SUMS").mkdir()
    result = taskrun("tasks.txt", *FLAGS, "-p", "run", files={"tasks.txt": f"#TASKRUN STAGE-OUT a.dat {out}/\necho > a.dat\n"})
    assert result.code == 3
    assert "SHA256SUMS was not delivered" in result.err
    assert Path(out / "a.dat").exists()


@given(st.dictionaries(st.text(st.characters(blacklist_characters="\0/", blacklist_categories=("Cs",)), min_size=1), st.just("a" * 64)))
def test_names_survive(found: dict[str, str]) -> None:
    kept = {name.removeprefix("./"): value for name, value in found.items()}
    assert parse(text_of(kept)) == kept
