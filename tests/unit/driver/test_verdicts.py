"""Verdicts about hosts on their way to the person: what several hosts have in common is one line."""

from __future__ import annotations

import json
from pathlib import Path

from taskrun.driver.notes import Notes
from taskrun.driver.verdicts import Verdicts
from taskrun.model import PerEngine, Result
from taskrun.scheduling import messages as m
from taskrun.status.events import EventsWriter

FAILED = Result("start", 0, 1, "exit", 7, 1, -1, 0.0, 1.0, 1.0, 0.0, 0.0, 0, 0, b"", 5, b"no GPU", False)


def test_many_hosts_that_fail_a_check_are_one_line(tmp_path: Path) -> None:
    said: list[str] = []
    notes = Notes(said.append)
    events = EventsWriter(tmp_path / "events")
    verdicts = Verdicts(lambda _, text, host: notes.add(host, text), said.append, events)
    check = PerEngine(0, 3, "START", b"nvidia-smi", check=True)
    for number in range(100):
        verdicts.unfit(m.Unfit("c", f"e{number}", f"node{number}", check, FAILED))
    for number in (1, 2):
        verdicts.judged(m.Judged("c", f"node{number}", (f"e{number}",), "set-aside", 5, 60.0, FAILED))
    notes.flush()
    events.close()
    assert said == [
        'node0, node1 and 98 others: PERENGINE START CHECK in line 3 failed there (exit 7), and it is not used; last error: "no GPU"',
        (
            "node1, node2: its last 5 tasks failed within seconds while others succeed elsewhere; it is set aside, "
            'probed with one task in 1 min; last error: "no GPU"'
        ),
    ]
    told = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert [each["what"] for each in told] == ["unfit"] * 100 + ["set-aside"] * 2
