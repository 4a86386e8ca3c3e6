"""How a run is at one moment, in plain values: what `taskrun monitor` is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from taskrun.driver.crew import Crew
from taskrun.driver.member import Member
from taskrun.driver.recorder import Recorder
from taskrun.observers.progress import Progress
from taskrun.scheduling.engine import Engine
from taskrun.scheduling.scheduler import Scheduler

#: What an engine does, in the words of a person.
STATES = {
    "start": "starting", "ready": "running", "drain": "draining", "stop": "stopping", "leaving": "leaving", "closed": "lost",
    "gone": "gone",
}  # fmt: skip


class Picture:
    def __init__(self, run: dict[str, Any], crew: Crew, scheduler: Scheduler, recorder: Recorder, progress: Callable[[], Progress]) -> None:
        """`run`: what does not change."""
        self.run = run
        self.crew = crew
        self.scheduler = scheduler
        self.recorder = recorder
        self.progress = progress

    def show(self) -> dict[str, Any]:
        progress = self.progress()
        return {
            **self.run,
            "now": time.time(),
            "done": progress.done,
            "failed": progress.failed,
            "skipped": progress.skipped,
            "running": progress.running,
            "left": progress.left,
            "left_behind": self.recorder.left_behind,
            "waiting": progress.waiting,
            "stopping": self.scheduler.stop_why,
            "contexts": self._contexts(),
            "engines": self._engines(),
        }

    def _contexts(self) -> list[dict[str, Any]]:
        visits = self.crew.visits
        sums: dict[str, tuple[int, int]] = {}  # of engines that have gone, too
        for engine, (finished, failed) in self.recorder.by_engine.items():
            if engine not in self.crew.seats:
                continue
            context, _ = self.crew.seats[engine]
            before = sums.get(context, (0, 0))
            sums[context] = before[0] + finished, before[1] + failed
        return [
            {
                "name": name,
                "state": "running"
                if context.promising and not context.detached and context.open
                else "draining"
                if context.engines
                else "gone",
                "finished": sums.get(name, (0, 0))[0],
                "failed": sums.get(name, (0, 0))[1],
                "limit_left": context.left if context.limited else None,
                "from": visits[name].guest.peer if name in visits else "",
            }
            for name, context in self.scheduler.contexts.items()
        ]

    def _state(self, member: Member, engine: Engine | None) -> str:
        if engine is None:
            return "starting" if member.joined else "connecting"
        return self.scheduler.state_of(member.name) or STATES[engine.phase]

    def _engines(self) -> list[dict[str, Any]]:
        rows = []
        now = time.monotonic()
        engines = self.scheduler.engines
        for member in self.crew.members.values():
            engine = engines.get(member.name)
            finished, failed = self.recorder.by_engine.get(member.name, (0, 0))
            held = len(engine.live) if engine is not None else 0
            rows.append(
                {
                    "name": member.name,
                    "context": member.context,
                    "host": member.request.host,
                    "rank": member.rank,
                    "slots": member.request.slots,
                    "state": self._state(member, engine),
                    "running": min(held, member.request.slots),
                    "held": held,
                    "finished": finished,
                    "failed": failed,
                    "load": member.beat.load if member.beat is not None else None,
                    "memory": member.beat.memory if member.beat is not None else None,
                    "quiet": round(now - member.heard, 1),
                }
            )
        for due, member in self.crew.starting:
            state = f"tried again in {max(0.0, due - now):.0f} s" if member.tries else "waiting to be started"
            rows.append({"name": member.name, "context": member.context, "host": member.request.host, "rank": member.rank,
                         "slots": member.request.slots, "state": state, "running": 0, "held": 0,
                         "finished": 0, "failed": 0, "load": None, "memory": None, "quiet": None})  # fmt: skip
        return sorted(rows, key=lambda row: row["rank"])
