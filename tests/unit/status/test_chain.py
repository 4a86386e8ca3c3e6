"""Names of resumes, and which run is the newest of its chain."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from taskrun.observers import monitor, replay
from taskrun.status import chain

RAN = b"    \t0\t1\t-1\thost\t9\t0\t0.1\t1.0\t1.1\t0\t''\t0\t''\ttrue\n"
SKIPPED = RAN.replace(b"    \t", b"   S\t", 1)


def made(prefix: Path, resumed: list[str] | None = None, *, started: float = 1.0, base: str | None = None, ran: bytes = RAN) -> Path:
    status = prefix.with_name(f"{prefix.name}_status.txt")
    status.write_bytes(ran)
    values = {
        "v": 1, "run_id": "r", "version": "0", "argv": [], "cwd": "/", "status": status.name, "contexts": [], "options": {},
        "host": "h", "pid": 1, "boot_id": "b", "started": started, "stream_complete": True, "ended": 9.0,
        "exit_code": 3, "counts": {"done": 1, "left": 2},
        "resumed_from": [str(prefix.with_name(f"{each}_status.txt")) for each in resumed or []],
    }  # fmt: skip
    prefix.with_name(f"{prefix.name}_run.json").write_text(json.dumps(values | ({} if base is None else {"base": base})), encoding="ascii")
    return status


def test_numbers_go_on_from_the_highest(tmp_path: Path) -> None:
    first = made(tmp_path / "run")
    assert chain.base_of([first]) == tmp_path / "run"
    assert chain.next_prefix(tmp_path / "run") == tmp_path / "run.2"
    (tmp_path / "run.3.lock").touch()
    (tmp_path / "run.12_events.jsonl").touch()
    (tmp_path / "run.40_driver.log").touch()  # of nobody: it has no records
    (tmp_path / "run.x_status.txt").touch()
    assert chain.taken(tmp_path / "run") == [3, 12]
    assert chain.next_prefix(tmp_path / "run") == tmp_path / "run.13"
    for odd in ("run.999999999.lock", "run.1000000000.lock"):
        (tmp_path / odd).touch()
    assert chain.next_prefix(tmp_path / "run") == tmp_path / "run.1000000001"


def test_the_newest_says_which_chain(tmp_path: Path) -> None:
    third = made(tmp_path / "run.3", ["run"], started=3.0, base="run")
    own = made(tmp_path / "own.2", started=2.0)  # called so by a person
    assert chain.base_of([third, own]) == tmp_path / "run"
    assert chain.base_of([own]) == tmp_path / "own.2"
    (tmp_path / "disbatch_status.txt").touch()
    assert chain.base_of([tmp_path / "disbatch_status.txt"]) == tmp_path / "disbatch"
    lying = made(tmp_path / "a", base="../x")
    assert chain.base_of([lying]) == tmp_path / "a"


def test_an_older_run_where_newer_ones_have_run_something(tmp_path: Path) -> None:
    first = made(tmp_path / "odd é run")
    made(tmp_path / "odd é run.2", ["odd é run"], started=2.0, base="odd é run", ran=SKIPPED)
    assert chain.superseded([first]) == []
    second = made(tmp_path / "elsewhere", ["odd é run"], started=3.0)
    third = made(tmp_path / "odd é run.3", ["odd é run", "elsewhere"], started=4.0, base="odd é run")
    assert chain.newest_of(first) == [third]
    assert chain.superseded([first, second]) == [(first, [third]), (second, [third])]
    assert chain.superseded([first, third]) == chain.superseded([third]) == []
    link = tmp_path / "link_status.txt"
    link.symlink_to(first)
    assert chain.superseded([link]) == [(link, [third])]
    made(tmp_path / "odd é run", ["odd é run", "elsewhere"], started=5.0)  # continued in place
    assert chain.superseded([first]) == []
    made(tmp_path / "odd é run", started=1.0)
    os.mkfifo(tmp_path / "x_run.json")
    assert chain.superseded([first]) == [(first, [third])]


def test_the_monitor_of_an_older_run_names_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "run")
    for newest in ("run", "run.2"):
        made(tmp_path / newest, ["run"] if newest != "run" else [], started=float(len(newest)))
        picture = monitor.checked(replay.from_files(tmp_path / "run", alive=False))
        assert monitor.headlines(picture)[-1] == f"run what is left: taskrun -r {newest}_status.txt"
