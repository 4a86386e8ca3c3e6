"""The second user of these tests really is another one."""

from __future__ import annotations

import os
from pathlib import Path

from strangers import Stranger


def test_the_stranger_is_another_user_that_can_write_in_an_opened_directory(stranger: Stranger, tmp_path: Path) -> None:
    stranger.open(tmp_path)
    assert (
        stranger.python("import os, sys; open(sys.argv[1], 'w').close(); print(os.getuid())", str(tmp_path / "made")) == f"{stranger.uid}\n"
    )
    assert (tmp_path / "made").stat().st_uid == stranger.uid != os.getuid()
