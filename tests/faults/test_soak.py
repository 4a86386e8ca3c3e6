"""Eighty runs of the soak (soak.py): nothing lost, nothing recorded runs again, nothing overlaps itself, nothing left behind.

A thousand with `make soak`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from faults.soak import one

RUNS = 80
CASES = 4
AT_ONCE = 4  # most of them wait most of the time


@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("case", range(CASES))
def test_soak(case: int) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(one, range(case, RUNS, CASES)))
    failed = [f"{outcome.story}\n{outcome.error}" for outcome in outcomes if outcome.error]
    assert not failed, "\n".join([*failed, "again: python tests/faults/soak.py --seed N"])
