"""What -r names: a status file, or the run by its prefix or another of its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskrun.driver.resumed import status_of, statuses
from taskrun.errors import Refused

RECORD = " O  \t0\t1\t-1\tnode\t28163\t0\t0.006\t1796099612.664\t1796099612.670\t3\t'hi\\n'\t0\t''\techo hi\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("tasks.txt_1_status.txt", "tasks.txt_2_status.txt", "night_status.txt")):
        Path(name).write_text(RECORD)
        os.utime(name, (number, number))
    for name in ("night_run.json", "night_events.jsonl", "night_driver.log", "tasks.txt", "poem"):
        Path(name).write_text("true\n")
    Path("old").write_text(RECORD)  # disBatch's, renamed
    Path("empty_status.txt").touch()
    Path("night").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("night_status.txt", "night_status.txt"),
        ("night", "night_status.txt"),  # although there is a folder
        ("night_run.json", "night_status.txt"),
        ("night_events.jsonl", "night_status.txt"),
        ("night_driver.log", "night_status.txt"),
        ("night_manifest.json", "night_status.txt"),
        ("night.lock", "night_status.txt"),
        ("tasks.txt_2", "tasks.txt_2_status.txt"),
        ("old", "old"),
        ("empty_status.txt", "empty_status.txt"),
        ("./night/../night", "night_status.txt"),
    ],
)
def test_a_run_by_one_of_its_names(folder: Path, given: str, found: str) -> None:
    assert status_of(given) == folder / found


def test_a_status_file_of_another_name_by_its_sidecar(folder: Path) -> None:
    keys = '"run_id": "1", "version": "1", "argv": [], "cwd": "/", "contexts": [], "options": {}, "host": "h", "pid": 1, "boot_id": "b"'
    text = '{"v": 1, "status": "old", "started": 1, "stream_complete": true, ' + keys + "}"
    (folder / "odd_run.json").write_text(text)
    assert status_of("odd") == status_of("odd_run.json") == folder / "old"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("nigth", "cannot be read: No such file or directory; did you mean night_status.txt?"),
        ("nigth_status.txt", "cannot be read: No such file or directory; did you mean night_status.txt?"),
        ("night_statu.txt", "cannot be read: No such file or directory; did you mean night_status.txt?"),
        ("tasks.txt", "is not a status file; did you mean tasks.txt_2_status.txt, tasks.txt_1_status.txt?"),
        ("tasks", "cannot be read: No such file or directory; did you mean tasks.txt_2_status.txt, tasks.txt_1_status.txt?"),
        ("poem", "is not a status file"),
        ("xyzzy", "cannot be read: No such file or directory"),
        ("gone/night", "cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_name_is_told_with_those_beside_it(folder: Path, given: str, told: str) -> None:
    with pytest.raises(Refused) as caught:
        status_of(given)
    assert str(caught.value) == f"{folder}/{given} {told}"


def test_what_names_none_is_left_to_its_reader(folder: Path) -> None:
    (folder / "void").touch()
    (folder / "link").symlink_to("old")
    for name in ("void", "link"):
        assert status_of(name) == folder / name
    assert statuses(["night_status.txt", "night"]) == ["night_status.txt", f"{folder}/night_status.txt"]
