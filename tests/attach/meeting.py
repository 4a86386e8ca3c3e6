"""Runs that others attach to: started, met, and left alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import Running, Taskrun, until

#: A task that runs until the test lets it.
GATED = "echo $TASKRUN_ENGINE_RANK {n} >> ran; until test -e go; do sleep 0.05; done\n"


def gated(count: int) -> str:
    return "".join(GATED.format(n=n) for n in range(count))


class Meeting:
    """A run called `run`, with its door open."""

    def __init__(self, taskrun: Taskrun, lines: str, *arguments: str, files: Mapping[str, str] | None = None) -> None:
        self.taskrun = taskrun
        self.folder = taskrun.folder
        if "-S" not in arguments:
            arguments = ("--use-address", "127.0.0.1:0", *arguments)  # then it opens at once
        self.running = taskrun.start("tasks.txt", "-p", "run", *arguments, files={"tasks.txt": lines, **(files or {})})
        until(lambda: self.path("attach.json").exists() or self.running.process.poll() is not None, 20, "the door to open")
        assert self.running.process.poll() is None, self.running.said()

    def path(self, name: str) -> Path:
        return self.folder / f"run_{name}"

    @property
    def invitation(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.path("attach.json").read_text())
        return answer

    def attach(self, *arguments: str, name: str = "run") -> Running:
        """Starts it, and waits until it has joined."""
        running = self.taskrun.start("attach", name, *arguments)
        until(lambda: "attached to run" in running.said()[1] or running.process.poll() is not None, 20, "it to attach")
        return running

    def ran(self) -> list[list[str]]:
        """(rank of the engine, number) of each task that has started."""
        path = self.folder / "ran"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def wait_for(self, rank: int, count: int) -> None:
        until(lambda: sum(row[0] == str(rank) for row in self.ran()) >= count, 20, f"{count} tasks on engine {rank}")

    def go(self) -> None:
        (self.folder / "go").touch()

    def log(self) -> str:
        return self.path("driver.log").read_text()

    def picture(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.taskrun("monitor", "run", "--json").out)
        return answer
