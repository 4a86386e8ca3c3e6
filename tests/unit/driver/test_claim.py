"""Names of the files of a resume."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taskrun.driver.claim import Claim
from taskrun.options import parse


def chosen(folder: Path, said: list[str], *words: str) -> Claim:
    _, options = parse(["tasks.txt", *words], {})
    claim = Claim(options, "r", 0.0, folder, "tasks.txt", False, said.append)
    claim.choose()
    claim.choose()
    return claim


def test_a_resume_is_beside_the_first_run_unless_that_folder_is_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    old, here = tmp_path / "old", tmp_path / "here"
    for folder in (old, here):
        folder.mkdir()
    (old / "run_status.txt").touch()
    said: list[str] = []
    resumed = ("-r", str(old / "run_status.txt"))
    claim = chosen(here, said, *resumed)
    assert (claim.prefix, claim.base, said) == (old / "run.2", "run", [])
    assert chosen(here, said, *resumed, "-p", "own").prefix == here / "own"
    assert chosen(here, said, *resumed, "-p", "./").prefix == here / "tasks.txt_77"
    assert chosen(here, said, *resumed, "--append").prefix == old / "run"
    assert said == []
    monkeypatch.setattr(os, "access", lambda *_: False)
    claim = chosen(here, said, *resumed)
    assert (claim.prefix, claim.base) == (here / "tasks.txt_77", "")
    assert said == [f"the folder of the earlier run, {old}, cannot be written to: the files of this one are {here}/tasks.txt_77_*"]
