"""The way of an engine into a run: from its agent's first words until its slots can be used."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from taskrun.agent import wire
from taskrun.driver import orders
from taskrun.driver.briefing import Common, brief
from taskrun.driver.member import Member
from taskrun.driver.survivors import Survivors
from taskrun.engines import frames
from taskrun.engines.slurm import Steps
from taskrun.scheduling import messages as m

if TYPE_CHECKING:
    from taskrun.driver.visits import Visit


class Admission:
    """An engine is `complete` when it is ready and nothing of what was there before is left. It joins then, unless others must be, too."""

    def __init__(
        self,
        common: Common,
        steps: Mapping[str, Steps],
        visits: Mapping[str, Visit],
        send: Callable[[Member, dict[str, Any]], None],
        join: Callable[[Member], None],
        *,
        require_all: bool,
    ) -> None:
        """`steps`, `visits`: by context; `require_all`: the first engine joins when all can."""
        self.common = common
        self.steps = steps
        self.visits = visits
        self.require_all = require_all
        self.survivors = Survivors()
        self.expected = 0  # engines that were asked for so far
        self.complete: list[Member] = []  # those that wait for others, or for the end of what earlier runs have left elsewhere
        self.had_one = False  # one has joined
        self.folders: dict[str, list[str]] = {}  # host -> private folders of agents there; one that is killed cannot remove its own
        self.local: list[str] = []  # names of those on this machine
        self._send = send
        self._join = join

    def hello(self, member: Member, message: frames.Hello) -> None:
        if member.joined:
            raise wire.BadFrame("a second `hello`")
        if message.protocol != wire.PROTOCOL:
            raise wire.BadFrame(f"its protocol is {message.protocol}, not {wire.PROTOCOL}")
        member.facts = message.facts
        member.folder = f"taskrun-{os.urandom(8).hex()}"  # nobody can have made one of that name before
        if member.here:
            self.local.append(member.folder)
        sweep = self.folders.get(_place(member), [])[:]
        steps, visit = self.steps.get(member.context), self.visits.get(member.context)
        config = brief(member, message.facts, self.common, member.folder, sweep, steps=steps, visit=visit, earlier=self.survivors)
        member.cleared = "earlier" not in config
        member.joined = True
        member.asked = time.time()
        self._send(member, config)
        if member.gone_keys:
            self._send(member, orders.gone(member.gone_keys))

    def ready(self, member: Member, message: frames.Ready) -> None:
        if not member.joined or member.ready:
            raise wire.BadFrame("`ready` at a wrong time")
        if message.folder:
            if not message.folder.startswith("/") or message.folder.rpartition("/")[2] != member.folder:
                raise wire.BadFrame("`ready` has another private folder than it was given")
            self.folders.setdefault(_place(member), []).append(message.folder)
        member.ready = True
        member.starter, member.leftovers = message.starter, message.leftovers
        member.shared, member.cwd = message.shared, message.cwd
        if 0 < message.slots < member.request.slots:
            member.request = member.request._replace(slots=message.slots)
        if not member.here:  # as NTP does: what the way there and the way back have in common cancels out
            member.offset = ((member.asked - message.came) + (time.time() - message.now)) / 2
        self._look_at(member)

    def cleared(self, member: Member, _: frames.Cleared) -> None:
        """Nothing of earlier runs is left there."""
        if member.cleared:
            raise wire.BadFrame("`cleared` at a wrong time")
        member.cleared = True
        if member.request.reach != "relay":  # who attaches may call a host by the address of another
            self.survivors.cleared(member.place)
        self._look_at(member)
        self.look_again()

    def lost(self, member: Member, keys: list[m.Key]) -> list[m.Key]:
        """Nothing of these attempts is left there. Those of them that were not lost before."""
        if not member.gone_keys:
            return keys
        gone = set(member.gone_keys)
        member.gone_keys = [key for key in member.gone_keys if key not in keys]
        if not member.gone_keys:
            self._look_at(member)
        return [key for key in keys if key not in gone]

    def gone(self, member: Member) -> None:
        """Its link has ended."""
        if member in self.complete:
            self.complete.remove(member)

    def _look_at(self, member: Member) -> None:
        if not member.ready or member.gone_keys or not member.cleared:
            return
        if member.replaces:
            self.survivors.back(member.place)
        self.complete.append(member)
        self.look_again()

    def look_again(self) -> None:
        """Whether those that are complete can join."""
        if self.survivors.unsure or (self.require_all and not self.had_one and len(self.complete) < self.expected):
            return
        complete, self.complete = self.complete, []
        for each in complete:
            self.had_one = True
            self._join(each)


def _place(member: Member) -> str:
    """The machine that an agent is on, as far as we know; '' for this one."""
    return "" if member.here else member.place
