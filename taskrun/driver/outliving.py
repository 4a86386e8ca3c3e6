"""Processes of tasks that lived when their engines left, as their agents have said: named at the end of the run."""

from __future__ import annotations

from pathlib import Path

from taskrun.driver.member import Member
from taskrun.engines import frames
from taskrun.observers.remains import Outliver


class Outliving:
    def __init__(self) -> None:
        self._of: dict[str, tuple[Member, frames.Outlive]] = {}  # by engine

    def take(self, member: Member, message: frames.Outlive) -> None:
        self._of[member.name] = member, message

    def look(self) -> tuple[int, list[Outliver]]:
        """(how many there are, at least, the first of each engine), without those of this machine that have ended meanwhile."""
        count = 0
        found = []
        for member, message in self._of.values():
            request = member.request
            named = [each for each in message.processes if not member.here or Path(f"/proc/{each.pid}").exists()]
            count += max(len(named), message.total - len(message.processes) + len(named))
            for (kind, number, _), pid, command in named:
                whose = f"task {number}" if kind == "task" else f"PERENGINE {kind.upper()}"
                found.append(Outliver("" if member.here else request.host, pid, whose, command, request.reach == "ssh"))
        return count, found

    def events(self) -> list[dict[str, object]]:
        """Return the same for the events file, which has no text of a task."""
        return [
            {"host": member.request.host, "pid": each.pid, "of": each.key[0], "id": each.key[1]}
            for member, message in self._of.values()
            for each in message.processes
        ]
