"""One engine of a run as the driver keeps it, and how its agent is started: a child, over SSH, by a step of SLURM."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskrun.driver.arrival import Arrival
from taskrun.driver.lineage import host_key
from taskrun.engines.frames import Beat
from taskrun.engines.link import Agent
from taskrun.engines.local import LocalAgent
from taskrun.engines.request import EngineRequest, Reach
from taskrun.model import Result
from taskrun.scheduling import messages as m
from taskrun.status import opening

if TYPE_CHECKING:
    from taskrun.driver.visits import Visit
    from taskrun.engines.slurm import Steps


class Member:
    """One engine: its agent behind a link. `prefix`: of the run's files."""

    def __init__(self, context: str, request: EngineRequest, rank: int, prefix: Path) -> None:
        self.name = f"{request.host}_{rank}"
        self.context = context
        self.request = request
        self.rank = rank
        self.prefix = prefix
        self.log = log_path(prefix, self.name)
        self.log_start = 0
        self.agent: Agent  # once it is started
        self.since = time.monotonic()
        self.arrival: Arrival | None = None  # over ssh, until it has said hello
        self.joined = False  # it has said hello
        self.available = False  # the scheduler knows it
        self.facts: dict[str, Any] = {}  # what the agent said of its node
        self.parting = False  # its link has ended, and what that means is not known yet
        self.why = ""  # it said that it is of no use, and why
        self.starter = ""  # what starts slots there
        self.leftovers = "keep"  # what its agent does with what tasks leave behind
        self.ready = False  # it has said that its slots can be used
        self.cwd = ""  # where its tasks run
        self.folder = ""  # what its private folder is called
        self.shared = True  # it sees the driver's working directory
        self.asked = 0.0  # when the config was sent, epoch seconds
        self.offset = 0.0  # seconds to add to its clock's times to have the driver's
        self.heard = self.since
        self.gone_keys: list[m.Key] = []  # lost with an engine that it replaces: nothing of them may be left
        self.cleared = True  # nothing of earlier runs is left there
        self.replaces = False
        self.lost_for_good = False  # its node is no longer the context's
        self.tries = 0  # that failed before this one
        self.quoted = 0  # notes of it that came
        self.worked = 0.0  # when it last said that something had ended
        self.beat: Beat | None = None  # what it said last of its node

    def again(self) -> Member:
        """Another try to have it."""
        member = Member(self.context, self.request, self.rank, self.prefix)
        member.tries, member.replaces, member.gone_keys = self.tries, self.replaces, self.gone_keys
        return member

    def start(self, held_fd: int, ssh: str, note: Callable[[str], None], steps: Steps | None, visit: Visit | None) -> None:
        """Start its agent. `steps`, `visit`: of its context. Raises OSError."""
        try:
            log_fd = opening.own(self.log)
        except OSError as error:
            note(f"{self.log} cannot be written ({error.strerror}): what its agent and programs say there is kept nowhere")
            log_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            self.log_start = os.fstat(log_fd).st_size
            reaching = Reaching(held_fd, ssh, self.log, log_fd, note, steps, visit)
            self.agent = REACHES[self.request.reach](self.request, reaching)
            if self.request.reach == "ssh":
                self.arrival = Arrival(self.agent, self.request.address, ssh)
        finally:
            os.close(log_fd)

    def by_our_clock(self, results: list[Result]) -> list[Result]:
        """With the times of its clock in the driver's."""
        offset = self.offset
        if not offset:
            return results
        return [each._replace(start=each.start + offset, end=each.end + offset) if each.end else each for each in results]

    def tidy_log(self) -> None:
        """A log in which nothing was said does not stay."""
        with contextlib.suppress(OSError):
            if not self.log.lstat().st_size:
                self.log.unlink()

    @property
    def place(self) -> str:
        """The host in records, and whatever is kept by host. Who attaches chooses the address, which may be another host's."""
        return host_key("attached" if self.request.reach == "relay" else "", self.context, self.request.address)

    @property
    def here(self) -> bool:
        """It runs on this machine, as a child."""
        return self.request.reach == "local"


class Reaching(NamedTuple):
    """What starting an agent needs beside the request."""

    held_fd: int  # the lock's descriptor, for children
    ssh: str  # --ssh
    log: Path
    log_fd: int
    note: Callable[[str], None]  # from any thread
    steps: Steps | None  # of a SLURM allocation
    visit: Visit | None = None  # of a context that a guest has brought


def _local(_request: EngineRequest, reaching: Reaching) -> Agent:
    return LocalAgent(reaching.held_fd, reaching.log_fd)


def _ssh(request: EngineRequest, reaching: Reaching) -> Agent:
    if reaching.ssh:
        from taskrun.engines.command import CommandAgent, ssh_command

        return CommandAgent(ssh_command(reaching.ssh, request.address), reaching.log, reaching.log_fd)
    from taskrun.engines.ssh import SshAgent

    return SshAgent(request.address, reaching.log_fd, reaching.note)


def _slurm(request: EngineRequest, reaching: Reaching) -> Agent:
    from taskrun.engines.slurm import SlurmAgent

    assert reaching.steps is not None
    return SlurmAgent(request, reaching.steps, reaching.log, reaching.log_fd)


def _relay(request: EngineRequest, reaching: Reaching) -> Agent:
    assert reaching.visit is not None
    return reaching.visit.start(request)


#: How each kind of engine is reached. Raises OSError when its program cannot be started.
REACHES: dict[Reach, Callable[[EngineRequest, Reaching], Agent]] = {"local": _local, "ssh": _ssh, "slurm": _slurm, "relay": _relay}


def log_path(prefix: Path, engine: str) -> Path:
    return prefix.with_name(f"{prefix.name}_{engine}.log")
