"""The sidecar: written whole, read tolerantly, found from a status file."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from taskrun.errors import RecordsFailed, Refused
from taskrun.status import durable
from taskrun.status.sidecar import Sidecar, TaskFile, find, load


def sidecar(**changes: object) -> Sidecar:
    values: dict[str, object] = {
        "run_id": "r1", "version": "0.1.0", "argv": ["taskrun", "t\udcff"], "cwd": "/home/x", "status": "x_status.txt",
        "contexts": [{"kind": "local", "hosts": {"vm": 8}}], "options": {"exit_code": {"value": True, "origin": "command line"}},
        "host": "vm", "pid": 1, "boot_id": "b", "started": 1.5, "task_file": TaskFile("/home/x/t\udcff", "ab", 3),
    }  # fmt: skip
    return Sidecar(**{**values, **changes})


def test_round_trip_with_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "x_run.json"
    one = sidecar(ended=2.0, exit_code=3, counts={"ok": 2}, resumed_from=["/home/x/y_status.txt"])
    one.write(path)
    assert load(path) == one
    assert path.read_bytes().isascii()
    assert json.loads(path.read_bytes())["v"] == 1
    assert os.fsencode(load(path).argv[1]) == b"t\xff"
    stream = sidecar(task_file=None, stream_complete=False)
    stream.write(path)
    assert load(path) == stream
    assert [name.name for name in tmp_path.iterdir()] == ["x_run.json"]


def test_bytes_and_paths_may_be_given(tmp_path: Path) -> None:
    path = tmp_path / "x_run.json"
    sidecar(contexts=[{"label": b"host\xff:8", "from": Path("p")}]).write(path)
    assert load(path).contexts == [{"label": "host\udcff:8", "from": "p"}]


def test_a_private_sidecar_stays_private(tmp_path: Path) -> None:
    path = tmp_path / "x_run.json"
    sidecar().write(path)
    path.chmod(0o600)
    sidecar(exit_code=0).write(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_failed_write_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x_run.json"
    sidecar().write(path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_all", full)
    with pytest.raises(RecordsFailed, match=r"x_run.json cannot be written: No space left on device"):
        sidecar(exit_code=0).write(path)
    assert load(path).exit_code is None
    assert [name.name for name in tmp_path.iterdir()] == ["x_run.json"]


def test_keys_of_later_versions_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "x_run.json"
    sidecar().write(path)
    values = json.loads(path.read_bytes())
    path.write_text(json.dumps({**values, "cloud": {"zone": "a"}}), encoding="ascii")
    one = load(path)
    assert one.extra == {"cloud": {"zone": "a"}}
    one.write(path)
    assert json.loads(path.read_bytes())["cloud"] == {"zone": "a"}


@pytest.mark.parametrize("key", ["run_id", "argv", "cwd", "contexts", "options", "status", "started", "task_file"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    path = tmp_path / "x_run.json"
    sidecar().write(path)
    values = json.loads(path.read_bytes())
    del values[key]
    path.write_text(json.dumps(values), encoding="ascii")
    with pytest.raises(Refused, match=f"the key '{key}' is missing"):
        load(path)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"argv": [1]}, r"the key 'argv\[0\]'"),
        ({"started": "now"}, "the key 'started'"),
        ({"task_file": {"path": "/x"}}, r"the key 'task_file\.sha256'"),
        ({"v": 2}, "newer taskrun"),
        ({"v": "1"}, "the key 'v'"),
        ({"options": {"env": {"value": ["A"], "valued": [[]]}}}, "key 'options.env.valued.0.*' has a value it cannot have"),
    ],
)
def test_values_it_cannot_have(tmp_path: Path, change: dict[str, object], why: str) -> None:
    path = tmp_path / "x_run.json"
    sidecar().write(path)
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}), encoding="ascii")
    with pytest.raises(Refused, match=why):
        load(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"v"', b"[" * 100_000, b"3"])
def test_what_is_no_sidecar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x_run.json").write_bytes(content)
    with pytest.raises(Refused, match="is not the sidecar of a run"):
        load(tmp_path / "x_run.json")


def test_an_absent_one(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="cannot be read: No such file"):
        load(tmp_path / "x_run.json")


def test_found_by_the_same_name(tmp_path: Path) -> None:
    sidecar().write(tmp_path / "x_run.json")
    sidecar(started=9.0).write(tmp_path / "y_run.json")
    assert find(tmp_path / "x_status.txt") == tmp_path / "x_run.json"
    assert find(tmp_path / "x_status.txt.unwritten") == tmp_path / "x_run.json"


def test_found_as_the_newest_one_that_names_it(tmp_path: Path) -> None:
    sidecar(status="old.txt").write(tmp_path / "a_run.json")
    sidecar(status="old.txt", started=9.0).write(tmp_path / "b_run.json")
    sidecar(status="other.txt", started=99.0).write(tmp_path / "c_run.json")
    (tmp_path / "d_run.json").write_bytes(b"garbage")
    assert find(tmp_path / "old.txt") == tmp_path / "b_run.json"


def test_found_where_a_link_points_to(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    sidecar().write(folder / "x_run.json")
    (folder / "x_status.txt").touch()
    link = tmp_path / "prev_status.txt"
    link.symlink_to(folder / "x_status.txt")
    assert find(link) == folder / "x_run.json"


def test_not_found_says_what_to_add(tmp_path: Path) -> None:
    status = tmp_path / "x_status.txt"
    with pytest.raises(Refused) as raised:
        find(status)
    assert str(raised.value) == (
        f"{status} has no sidecar x_run.json that says what was run: name the task file and the engines, "
        f"as in `taskrun TASKFILE -s HOST:SLOTS -r {status}`"
    )
