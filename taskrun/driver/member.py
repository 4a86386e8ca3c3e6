"""One engine of a run as the driver keeps it, and how its agent is started: a child, over SSH, by a step of SLURM."""

from __future__ import annotations

import base64
import functools
import os
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskrun.agent import starter
from taskrun.engines.link import Agent
from taskrun.engines.local import LocalAgent
from taskrun.engines.request import EngineRequest, Reach
from taskrun.scheduling import messages as m

if TYPE_CHECKING:
    from taskrun.driver.visits import Visit
    from taskrun.engines.slurm import Steps


class Member:
    """One engine: its agent behind a link."""

    def __init__(self, name: str, context: str, request: EngineRequest, rank: int, log: Path) -> None:
        self.name = name
        self.context = context
        self.request = request
        self.rank = rank
        self.log = log
        self.log_start = 0
        self.agent: Agent  # once it is started
        self.since = time.monotonic()
        self.joined = False  # it has said hello
        self.available = False  # the scheduler knows it
        self.facts: dict[str, Any] = {}  # what the agent said of its node
        self.why = ""  # it said that it is of no use, and why
        self.starter = ""  # what starts slots there
        self.ready = False  # it has said that its slots can be used
        self.cwd = ""  # where its tasks run
        self.shared = True  # it sees the driver's working directory
        self.asked = 0.0  # when the config was sent, epoch seconds
        self.offset = 0.0  # seconds to add to its clock's times to have the driver's
        self.heard = self.since
        self.gone_keys: list[m.Key] = []  # lost with an engine that it replaces: nothing of them may be left
        self.cleared = True  # nothing of earlier runs is left there
        self.replaces = False
        self.lost_for_good = False  # its node is no longer the context's
        self.tries = 0  # that failed before this one
        self.load: float | None = None  # of its node, as it said last

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


@functools.cache
def packed_parallel() -> str:
    """This machine's GNU Parallel as text for a host that has none, '' when there is none here."""
    path, _ = starter.find_parallel(os.environ.get("PATH", os.defpath))
    return base64.b64encode(zlib.compress(Path(path).read_bytes(), 9)).decode() if path else ""
