"""Where tasks run, as an agent that was shipped finds it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskrun.agent import workdir


def test_a_folder_that_cannot_be_known_is_not_said_to_be_another_one(tmp_path: Path) -> None:
    """The run's files lie where this host does not see them."""
    token = {"path": str(tmp_path / "nowhere" / "run.lock"), "text": "1", "inode": tmp_path.stat().st_ino}
    config = {"cwd": str(tmp_path), "token": token, "workdir": ""}
    with pytest.raises(workdir.Unusable, match=r"whether it is the same cannot be told .* give a -p that all hosts see, or --workdir DIR"):
        workdir.settle(config)
    with pytest.raises(workdir.Unusable, match="does not share the working directory"):
        workdir.settle({**config, "token": {**token, "inode": 0}})
