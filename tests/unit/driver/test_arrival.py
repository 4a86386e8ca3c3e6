"""The way of an agent to a host, and what is said of it when it takes long."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from taskrun.driver import arrival
from taskrun.engines import ssh_settings


def test_a_host_that_does_not_answer_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the built-in SSH, when it gives the connection up; before that nothing is said here."""
    now = [100.0]
    monkeypatch.setattr(arrival, "time", SimpleNamespace(monotonic=lambda: now[0]))
    agent: Any = SimpleNamespace(reached=False)
    one = arrival.Arrival(agent, "host1", "")
    now[0] += ssh_settings.CONNECT_SECONDS + 2
    assert one.step() == ""
    now[0] += 3
    assert one.step() == "there is no connection after 25 s: see `ssh host1 true`; it is waited for"
    now[0] += 60
    assert one.step() == ""
    agent.reached = True
    assert one.step() == ""
    now[0] += arrival.LOGIN_SECONDS
    assert one.step().startswith("its login has taken the agent 6 s ago, and nothing comes back: ")
