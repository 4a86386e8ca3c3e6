"""Files that were put aside get their names back when a store raises what nobody expects."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskrun.driver.proofs import Proof
from taskrun.driver.removal import Doomed, Remover
from taskrun.staging.local import LocalStore


def test_a_mistake_in_a_store_leaves_nothing_aside(tmp_path: Path) -> None:
    def broken(_: Proof, __: bool) -> str:
        raise ZeroDivisionError

    (tmp_path / "a").write_text("only copy")
    store = LocalStore(tmp_path, "tag")
    doomed = [Doomed("a", store, "a", (Proof("s3://b/a", 9, "v", "0" * 64),))]
    with pytest.raises(ZeroDivisionError):
        Remover("tag", broken, lambda _, __: {}, lambda: False, 1).remove(doomed, [])
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
