"""What a resume removes of a killed run: its own files, and no other."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from taskrun.driver import remains
from taskrun.engines.invitation import Invitation

ORPHANED = "taskrun agent: the link is closed, ending its tasks\n"


def killed(folder: Path, *, run_id: str = "r1", ended: float | None = None) -> Path:
    """The files of a killed run, and others; returns its status file."""
    values: dict[str, Any] = {
        "v": 1, "run_id": "r1", "version": "1", "argv": [], "cwd": "/", "status": "run_status.txt", "host": "here", "pid": 1, "boot_id": "",
        "contexts": [{"kind": "ssh", "label": "a", "hosts": {"me@node1": 2}}], "options": {}, "started": time.time(), "ended": ended,
        "stream_complete": True,
    }  # fmt: skip
    (folder / "run_run.json").write_text(json.dumps(values))
    (folder / "run_run.json").chmod(0o600)
    Invitation(run_id, [("here", 1)], "0" * 64, "secret", "control").write(folder / "run_attach.json")
    (folder / "run_dbUtil.sh").write_text(f'#!/bin/sh\n[ "$1" = --mon ] && exec x monitor {folder}/run\nexec x attach {folder}/run "$@"\n')
    for name, text in (
        ("run_node1_0.log", ""), ("run_node1_1.log", ORPHANED), ("run_node1_2.log", f"cannot\n{ORPHANED}"), ("run_node2_0.log", ""),
        ("run_x_1.log", ""), ("run_driver.log", ""), ("run_status.txt", ""), ("other_node1_0.log", ""),
    ):  # fmt: skip
        (folder / name).write_text(text)
    return folder / "run_status.txt"


GONE = {"run_attach.json", "run_dbUtil.sh", "run_node1_0.log", "run_node1_1.log"}


def removed(folder: Path, status: Path, lock: str = "run.lock") -> set[str]:
    before = {path.name for path in folder.iterdir()}
    said = {path.name for path in remains.remove([status], [folder / lock])}
    assert before - {path.name for path in folder.iterdir()} == said
    return said


def test_what_is_its_own_is_removed(tmp_path: Path) -> None:
    assert removed(tmp_path, killed(tmp_path)) == GONE


def test_not_through_a_link_but_where_a_linked_status_file_is(tmp_path: Path) -> None:
    (folder := tmp_path / "there").mkdir()
    killed(folder)
    (tmp_path / "link_status.txt").symlink_to(folder / "run_status.txt")
    (folder / "run_node1_0.log").unlink()
    (folder / "run_node1_0.log").symlink_to(tmp_path / "mine")
    (tmp_path / "mine").touch()
    assert removed(folder, tmp_path / "link_status.txt") == GONE - {"run_node1_0.log"}
    assert (tmp_path / "mine").exists()


@pytest.mark.parametrize("why", ["another lock", "it has ended", "no sidecar", "of another run"])
def test_what_is_not_known_to_be_its_own_stays(tmp_path: Path, why: str) -> None:
    status = killed(tmp_path, run_id="r2" if why == "of another run" else "r1", ended=time.time() if why == "it has ended" else None)
    if why == "no sidecar":
        (tmp_path / "run_run.json").unlink()
    (tmp_path / "run_dbUtil.sh").write_text("#!/bin/sh\nmine\n")
    gone = removed(tmp_path, status, "two.lock" if why == "another lock" else "run.lock")
    assert gone == (GONE - {"run_attach.json", "run_dbUtil.sh"} if why == "of another run" else set())
