"""Engines on this machine: the agent is a child in a session of its own, its pipes are the link."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from taskrun.agent import folder, probe
from taskrun.engines.child import ChildAgent

_BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from agent.main import main; sys.exit(main(%s))"


def command(held_fd: int, *, shipped: bool = False) -> list[str]:
    """The agent's argument list; `held_fd` is the lock's descriptor that it inherits. `shipped`: the driver may be on another machine."""
    package = str(Path(__file__).resolve().parent.parent)
    return [os.path.realpath(sys.executable), "-I", "-S", "-E", "-c", _BOOT % shipped, package, str(held_fd)]


class LocalAgent(ChildAgent):
    """A running agent on this machine."""

    failure = ""
    permanent = False
    lives_on = False

    def __init__(self, held_fd: int, log_fd: int, *, shipped: bool = False) -> None:
        """Raises OSError when it cannot be started."""
        super().__init__(command(held_fd, shipped=shipped), log_fd, pass_fds=(held_fd,))

    @property
    def died(self) -> bool:
        return self.code != 0  # one that hears nothing more from the driver ends with 0


def remove_folder(name: str) -> None:
    """What an agent that was killed could not remove: its private folder."""
    for place in probe.places(name):
        if os.path.lexists(place):
            _kill_starter(place)
            folder.remove(place)


def _kill_starter(place: str) -> None:
    """A GNU Parallel that outlives its agent ends by itself, but one that is just starting would make its home there anew."""
    home = os.fsencode(f"PARALLEL_HOME={place}/parallel")
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                process = Path("/proc", entry)
                marked = home in process.joinpath("environ").read_bytes().split(b"\0")
                if marked and b"--termseq" in process.joinpath("cmdline").read_bytes().split(b"\0"):  # not a slot that it started
                    os.kill(int(entry), signal.SIGKILL)
