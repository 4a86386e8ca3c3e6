"""A look at hosts before any run: each is asked through an agent, as a run would start one, and nothing is started there."""

from __future__ import annotations

import contextlib
import os
import selectors
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.agent import starter, wire
from taskrun.driver.arrival import Arrival
from taskrun.driver.contexts import Engines
from taskrun.driver.member import REACHES, Reaching
from taskrun.engines import frames
from taskrun.engines.command import last_words
from taskrun.engines.link import Agent, silent_end
from taskrun.engines.request import EngineRequest
from taskrun.model import HostSeen
from taskrun.options import Options
from taskrun.status import opening

PINGS = 5  # to tell the latency: the shortest round trip counts
CONNECT_PATIENCE = 14.0  # seconds for a connection; OpenSSH may wait minutes for one
OTHER_PATIENCE = 90.0  # and without ssh: SLURM may be busy
PATIENCE = 12.0  # seconds for a host to answer all, once there is one
END_SECONDS = 5.0  # for agents to go


class Token(NamedTuple):
    """A file of ours in the working directory that a host which shares it can read; none where no file can be made."""

    path: str
    text: str


@contextlib.contextmanager
def token(folder: str) -> Iterator[Token | None]:
    text = os.urandom(12).hex()
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".taskrun-hosts-") as file:
            file.write(text)
            file.flush()
            yield Token(file.name, text)
    except OSError:
        yield None


class Looking:
    """One host."""

    def __init__(self, request: EngineRequest, ask: dict[str, Any], ssh: str) -> None:
        self.request = request
        self.ssh = ssh
        self.ask = ask
        self.agent: Agent
        self.arrival: Arrival
        self.log: Path
        self.facts: dict[str, Any] | None = None
        self.sent = 0.0
        self.trips: list[tuple[float, float]] = []  # seconds there and back, seconds its clock is ahead
        self.looked: frames.Looked | None = None
        self.why = ""  # it is not usable
        self.notes: list[str] = []
        self.over = False

    def take(self, message: frames.Message) -> None:
        """Raises BadFrame."""
        if isinstance(message, frames.Hello):
            if message.protocol != wire.PROTOCOL:
                raise wire.BadFrame(f"its protocol is {message.protocol}, not {wire.PROTOCOL}")
            self.facts = message.facts
            self._ping()
        elif isinstance(message, frames.Pong):
            now = time.time()
            self.trips.append((now - self.sent, message.now - (self.sent + now) / 2))
            if len(self.trips) < PINGS:
                self._ping()
            else:
                self.agent.link.send(self.ask)
        elif isinstance(message, frames.Looked):
            self.looked = message
            self.over = True

    def step(self, say: Callable[[str], None]) -> None:
        """Every second: whether it has had its time. `say`: takes a sentence for the person."""
        now = time.monotonic()
        said = self.arrival.step()
        if self.request.reach != "ssh":
            if now - self.arrival.began > OTHER_PATIENCE:
                self.why, self.over = f"nothing was heard for {OTHER_PATIENCE:.0f} s", True
            return
        if said and self.facts is None:
            say(f"{self.request.host}: {said}")
        reached = self.arrival.reached
        if now - (self.arrival.began if reached is None else reached) > (CONNECT_PATIENCE if reached is None else PATIENCE):
            self.over = True
            self.why = self.arrival.silence() if self.facts is None else f"its agent has not answered all within {PATIENCE:.0f} s"

    def _ping(self) -> None:
        self.sent = time.time()
        self.agent.link.send({"k": "ping"})

    def seen(self, here: bool) -> HostSeen:
        request, facts, looked = self.request, self.facts or {}, self.looked
        why = self.why or (looked.why if looked is not None else "")
        latency, ahead = min(self.trips) if self.trips else (None, None)
        parallel = facts.get("parallel", "")
        if here:
            parallel = starter.find_parallel(os.environ.get("PATH", os.defpath))[1]
        return HostSeen(
            address=request.address or request.host,
            slots=request.slots,
            why=why,
            notes=tuple(self.notes),
            python=facts.get("python", ""),
            parallel=parallel,
            perl=here or bool(facts.get("perl")),
            cores=facts.get("cores", 0),
            memory=facts.get("memory", 0),
            ahead=ahead,
            latency=latency,
            shared=looked.shared if looked is not None and self.ask["token"] is not None else None,
        )


def look(engines: Engines, options: Options, say: Callable[[str], None]) -> list[HostSeen]:
    """Return the findings about every host, in the order of -s. `say`: takes a sentence for the person meanwhile."""
    cwd = os.getcwd()  # noqa: PTH109 - a name that is not UTF-8 stays as it is
    with token(cwd) as made, tempfile.TemporaryDirectory(prefix="taskrun-hosts-") as folder:
        ask = {
            "k": "look",
            "cwd": cwd,
            "workdir": options.workdir or "",
            "token": None if made is None else {"path": made.path, "text": made.text, "inode": 0},
            "folder": f"taskrun-{os.urandom(8).hex()}",
        }
        hosts = [Looking(each, ask, options.ssh or "") for each in engines.requests]
        _ask_all(hosts, engines, Path(folder), say)
        return [each.seen(each.request.reach == "local") for each in hosts]


def _ask_all(hosts: list[Looking], engines: Engines, folder: Path, say: Callable[[str], None]) -> None:
    selector = selectors.DefaultSelector()
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    started = []
    for number, host in enumerate(hosts):
        host.log = folder / str(number)
        log_fd = opening.new(host.log)
        try:
            host.agent = REACHES[host.request.reach](
                host.request, Reaching(null, host.ssh, host.log, log_fd, _notes_of(host), engines.steps)
            )
        except OSError as error:
            host.why, host.over = f"its agent cannot be started: {error}", True
            continue
        finally:
            os.close(log_fd)
        host.arrival = Arrival(host.agent, host.request.address, host.ssh)
        started.append(host)
        selector.register(host.agent.link.read_fd, selectors.EVENT_READ, host)
    os.close(null)
    while waiting := [host for host in started if not host.over]:
        for host in waiting:
            host.agent.link.flush()
            host.step(say)
        for key, _ in selector.select(0.02 if any(host.agent.link.waiting for host in waiting) else 1.0):
            _read(key.data, selector)
    for host in started:
        host.agent.link.close()
    selector.close()
    for host in started:
        if host.facts is None:
            host.agent.kill()  # nothing of it is there to end in order
    _end(started)


def _notes_of(host: Looking) -> Callable[[str], None]:
    def keep(text: str) -> None:
        host.notes.append(text.removeprefix(f"{host.request.host}: "))

    return keep


def _read(host: Looking, selector: selectors.BaseSelector) -> None:
    try:
        received = host.agent.link.read()
        if received is None:
            link = host.agent.link
            said = host.agent.failure or last_words(host.log, 0) or ("" if link.echoed else link.noise)
            said = said or silent_end(host.agent, host.request.address, host.ssh)
            host.why = frames.sentence(said).removeprefix("taskrun: ")
            host.over = True
        else:
            for frame in received:
                host.take(frames.message_of(frame))
    except wire.BadFrame as error:
        host.why, host.over = f"its agent does not speak as agreed: {error}", True
    if host.over:
        selector.unregister(host.agent.link.read_fd)


def _end(hosts: list[Looking]) -> None:
    until = time.monotonic() + END_SECONDS
    left = [host.agent for host in hosts]
    while left and time.monotonic() < until:
        left = [agent for agent in left if not agent.ended()]
        time.sleep(0.005)
    for agent in left:
        agent.kill()
