"""The file that says how to attach: what stands in it is not believed before it is looked at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taskrun.engines.invitation import Invitation, load
from taskrun.errors import Refused

GOOD = Invitation("id", [("host", 1)], "a" * 64, "secret", "other")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "x")
    assert load(tmp_path / "x") == GOOD
    assert "secret" not in repr(GOOD)


@pytest.mark.parametrize(
    "more",
    [{"fingerprint": "é"}, {"fingerprint": ""}, {"run_id": "\x1b[2J"}, {"addresses": [["host", "x"]]}, {"addresses": {}}, {"secret": ""}],
)
def test_what_cannot_be_is_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    path = tmp_path / "x"
    GOOD.write(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    with pytest.raises(Refused, match="is no attach file"):
        load(path)


def test_others_could_read_it(tmp_path: Path) -> None:
    path = tmp_path / "x"
    GOOD.write(path)
    path.chmod(0o640)
    with pytest.raises(Refused, match="chmod 600"):
        load(path)
