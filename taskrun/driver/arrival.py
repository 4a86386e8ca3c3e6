"""The way of an agent to a host until its first words: whether a connection is made, and what is said when it takes long."""

from __future__ import annotations

import time

from taskrun.engines import advice
from taskrun.engines.link import Agent

CONNECT_SECONDS = 25.0  # without a connection, after which that is said; the built-in SSH has given up by then, and says so
LOGIN_SECONDS = 6.0  # without a word once it is made


class Arrival:
    """The arrival of one agent, looked at every second. `ssh`: the command of --ssh."""

    def __init__(self, agent: Agent, address: str, ssh: str) -> None:
        self.began = time.monotonic()
        self.reached: float | None = None  # since when there is a connection
        self._agent = agent
        self._login = advice.login(address, ssh=ssh)
        self._told: set[bool] = set()

    def step(self) -> str:
        """Look at it; a sentence where there is something new to say."""
        now = time.monotonic()
        if self.reached is None and self._agent.reached:
            self.reached = now
        reached = self.reached is not None
        late = now - self.began >= CONNECT_SECONDS if self.reached is None else now - self.reached >= LOGIN_SECONDS
        if not late or reached in self._told:
            return ""
        self._told.add(reached)
        return f"{self.silence()}; it is waited for"

    def silence(self) -> str:
        """Return the likely reason why nothing comes."""
        if self.reached is None:
            return f"there is no connection after {time.monotonic() - self.began:.0f} s: see `{self._login}`"
        return (
            f"its login has taken the agent {time.monotonic() - self.reached:.0f} s ago, and nothing comes back: a login script there "
            f"(~/.bashrc) takes long or reads standard input; `{self._login}` in a terminal must end by itself"
        )
