"""A driver with an agent that says anything: no traceback, no record of what it never held twice, and one sentence when it is dropped."""

from __future__ import annotations

import os
import selectors
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from fuzz import generated
from fuzz.budget import costly
from hypothesis import example, given
from hypothesis import strategies as st

from taskrun.agent import wire
from taskrun.driver import crew as crew_module
from taskrun.driver import member as member_module
from taskrun.driver.crew import Crew, Member
from taskrun.driver.loop import Loop
from taskrun.driver.recorder import Recorder
from taskrun.engines.link import Link
from taskrun.engines.request import EngineRequest
from taskrun.errors import Refused
from taskrun.model import PerEngine, Planned, Task
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import Policy, Scheduler
from taskrun.status.events import EventsWriter
from taskrun.status.record import Record
from taskrun.status.writer import StatusWriter

pytestmark = pytest.mark.timeout(0)

TASKS = 6


class Pretender:
    """In the place of an agent's process."""

    made: list[Pretender]
    failure = ""
    permanent = False
    lives_on = False
    died = False
    held = False
    settled = True
    code = 0

    def __init__(self, held_fd: int, log_fd: int) -> None:
        read_fd, self.mouth = os.pipe()
        self.ear, write_fd = os.pipe()
        self.link = Link(read_fd, write_fd)
        Pretender.made.append(self)

    def say(self, data: bytes) -> None:
        os.write(self.mouth, data)

    def ended(self) -> bool:
        return True

    def kill(self) -> None:
        """There is nothing to kill."""

    def close(self) -> None:
        for fd in (self.mouth, self.ear):
            os.close(fd)


class Tasks:
    """The plan: a few tasks, perhaps a START command before them."""

    def __init__(self, start: bool) -> None:
        self.start = start
        self.ended = False
        self.broken = ""
        self.always_ready = True
        self.grows = False

    def read(self, count: int) -> list[Planned]:
        self.ended = True
        tasks = [Task(number, 2 + number, -1, b"true") for number in range(TASKS)]
        return [PerEngine(0, 1, "START", b"true"), *tasks] if self.start else [*tasks]


class Nobody:
    """Looks on."""

    def tick(self, scheduler: Scheduler) -> None: ...

    def wait(self, why: str) -> None: ...

    def told(self, told: m.Told) -> None: ...


class Stage:
    """Everything of a driver but its signals."""

    def __init__(self, folder: Path, start: bool = False) -> None:
        Pretender.made = []
        self.notes: list[tuple[str, str]] = []
        self.selector = selectors.DefaultSelector()
        self.status = StatusWriter(folder / "x_status.txt", sync_seconds=60)
        self.events = EventsWriter(folder / "x_events.jsonl", sync_seconds=60)
        self.scheduler = Scheduler(Policy(grace=0.0))
        recorder = Recorder(self.status, self.events, node_of=lambda engine: engine)
        self.loop = Loop(self.scheduler, Tasks(start), recorder, Nobody(), self.selector)
        config: dict[str, Any] = {"lost_after": 120.0, "env": {}, "run": "r", "starter": "builtin", "shipped": {"env": {}}, "share": {}}
        note: Callable[[str, str, str], None] = lambda level, text, host: self.notes.append((level, f"{host}: {text}"))  # noqa: E731
        self.crew = Crew(self.selector, self.loop.post, note, self.joined, config, folder / "x", 0)
        self.loop.use(self.crew)
        self.crew.add_context(m.ContextJoined("local0"), [EngineRequest("vm", 2, 2, 1)])
        self.step()

    def joined(self, member: Member) -> None:
        """To the events file, as a run does."""
        self.events.event("engine", 1.0, engine=member.name, starter=member.starter, **member.facts)

    def step(self) -> None:
        """What there is to do now."""
        for _ in range(20):
            for key, _ in self.selector.select(0):
                key.data()
            if not self.loop.queue:
                break
            while self.loop.queue:
                self.loop._handle(self.loop.queue.popleft())
            self.loop._feed()
        self.crew.check()

    def close(self) -> None:
        self.crew.close()
        self.status.close()
        self.events.close()
        self.selector.close()
        for each in Pretender.made:
            each.close()


def speak(stage: Stage, data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        Pretender.made[-1].say(data[at : at + size])
        stage.step()


greeting = st.sampled_from(
    [
        wire.MARKER + b"\n" + generated.framed(generated.FRAMES["hello"]) + generated.framed(generated.FRAMES["ready"]),
        wire.MARKER + b"\n" + generated.framed(generated.FRAMES["hello"]),
        wire.MARKER + b"\n",
        b"",
    ]
)


@costly
@example(
    wire.MARKER + b"\n" + generated.framed(generated.FRAMES["hello"]) + generated.framed(generated.FRAMES["ready"]),
    False, [{"k": "lost", "keys": [["task", 0, 1]] * 2}], 5000,
)  # fmt: skip
@given(
    greeting, st.booleans(), st.lists(st.one_of(generated.right_frames, generated.any_frames), max_size=12), st.sampled_from([5, 100, 5000])
)
def test_whatever_an_agent_says(start: bytes, per_engine: bool, said: list[dict[str, Any]], size: int) -> None:
    with tempfile.TemporaryDirectory() as name, mock.patch.object(member_module, "LocalAgent", Pretender):
        stage = Stage(Path(name), per_engine)
        try:
            agent = Pretender.made[0]
            try:
                speak(stage, start, 5000)
                for frame in said:
                    if agent.link.closed:
                        break
                    speak(stage, generated.framed(frame), size)
            except Refused:  # the only engine there is could not be had
                assert not stage.crew.admission.had_one
            if agent.link.closed:
                assert not [text for level, text in stage.notes if level == "error" and "\n" in text]
            assert stage.loop.failures == []
        finally:
            stage.close()
        records = [Record.parse(line + b"\n") for line in (Path(name) / "x_status.txt").read_bytes().split(b"\n")[:-1]]
        count = Counter(record.id for record in records if record.flags[3] != "P")
        assert set(count.values()) <= {1}
        assert set(count) <= set(range(TASKS))


def test_what_it_should_say_is_recorded(tmp_path: Path) -> None:
    """So that the examples above are about something."""
    with mock.patch.object(member_module, "LocalAgent", Pretender):
        stage = Stage(tmp_path)
        try:
            start = wire.MARKER + b"\n" + generated.framed(generated.FRAMES["hello"]) + generated.framed(generated.FRAMES["ready"])
            speak(stage, start + generated.framed(generated.FRAMES["done"]), 7)
            assert not Pretender.made[0].link.closed
        finally:
            stage.close()
    (line,) = (tmp_path / "x_status.txt").read_bytes().split(b"\n")[:-1]
    assert Record.parse(line + b"\n").id == 0


@pytest.mark.parametrize("where", ["before it is ready", "while it runs"])
def test_one_that_does_not_speak_as_agreed_is_dropped_with_a_sentence(tmp_path: Path, where: str) -> None:
    with mock.patch.object(member_module, "LocalAgent", Pretender):
        stage = Stage(tmp_path)
        try:
            hello = wire.MARKER + b"\n" + generated.framed(generated.FRAMES["hello"])
            speak(stage, hello + (b"" if where.startswith("before") else generated.framed(generated.FRAMES["ready"])), 5000)
            wrong = generated.framed({"k": "done", "r": [[1]], "t": []})
            if where.startswith("before"):  # it was the only one
                with pytest.raises(Refused, match="vm: the agent does not speak as agreed: a result has not its 18 fields"):
                    speak(stage, wrong, 5000)
                assert Pretender.made[0].link.closed
            else:
                speak(stage, wrong, 5000)
                assert Pretender.made[0].link.closed
                assert not stage.scheduler.finished  # its tasks have the grace to end
                assert m.LinkClosed not in map(type, stage.loop.queue)
        finally:
            stage.close()


@pytest.mark.parametrize("said", [["hello"], ["hello", "beat"]])
def test_one_that_never_gets_ready_is_not_waited_for(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with mock.patch.object(member_module, "LocalAgent", Pretender):
        stage = Stage(tmp_path)
        try:
            speak(stage, wire.MARKER + b"\n" + b"".join(generated.framed(generated.FRAMES[kind]) for kind in said), 5000)
            monkeypatch.setattr(crew_module, "READY_SECONDS", -1.0)
            stage.step()
            stage.step()
            assert Pretender.made[0].link.closed
            assert stage.notes == [("warning", "vm: the agent was not ready after -1 s; it is tried again")]
        finally:
            stage.close()
