"""The held descriptor: a name that stays taken on this host as long as any process of a run lives.

The driver holds it, agents and slots inherit it (see agent/fence.py). Names beside it are held by who attaches to the run on its host.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from taskrun.agent import fence
from taskrun.errors import Refused
from taskrun.status import owner, sidecar
from taskrun.visible import visible

_POLL = (0.02, 0.25)  # seconds between looks: the first, the longest
_NOBODY = 65534  # the owner of a file whose server does not tell
USER = "user"  # key of the sidecar, and of its contexts that were attached: user id


class Users(NamedTuple):
    """The user ids of a run's processes. `anybody`: there may be others, which are not known."""

    known: frozenset[int]
    anybody: bool = False


class Left(NamedTuple):
    """Names of a run that are still taken: `alive` by its processes, `unsure` by nobody knows whom, `strange` by those of other users."""

    alive: list[str]
    unsure: list[str]
    strange: list[str]

    @property
    def free(self) -> bool:
        """Nothing of the run lives on this host."""
        return not self.alive and not self.unsure


def space() -> str:
    """Return where names that this process holds can be seen: the same within one boot and network name space; '' if unknown."""
    try:
        network = Path("/proc/self/ns/net").stat()
    except OSError:
        return ""
    boot = owner.boot_id()
    return hashlib.sha256(f"taskrun {boot} {network.st_dev} {network.st_ino}".encode()).hexdigest() if boot else ""


def own_user() -> Users:
    """Return the users of a run of this user alone."""
    return Users(frozenset((os.getuid(),)))


def hold(run_id: str) -> socket.socket:
    """Takes the name of the run, or one beside it if a stranger was faster.

    Hand the descriptor on (`pass_fds`) to every process that must be gone before a resume. Raises Refused if processes of the run hold it.
    """
    held = fence.bind(fence.name_of(_bytes(run_id)))
    if held is not None:
        return held
    if wait_until_free(run_id, 0).alive:
        raise Refused(f"run {run_id} still has processes on this host: wait until they are gone")
    return hold_beside(run_id)


def hold_beside(run_id: str) -> socket.socket:
    """The same for processes of the run that its driver has not started: another name, for which a resume waits, too. Raises Refused."""
    held = fence.bind_beside(_bytes(run_id), fence.BESIDE)
    if held is None:
        raise Refused(f"all names of run {run_id} on this host are taken (see /proc/net/unix): attach from another host")
    return held


def users_of(run: sidecar.Sidecar, status: Path) -> Users:
    """Whose processes those of a run may be: the caller's, those of who owns its files, ran it, or attached to it."""
    known, anybody = {os.getuid()}, False
    for path in (status, sidecar.find(status)):
        try:
            known.add(path.stat().st_uid)
        except OSError:
            continue
    attached = [context for context in run.contexts if isinstance(context, dict) and context.get("kind") == "attached"]
    for uid in [run.extra.get(USER, os.getuid()), *(context.get(USER) for context in attached)]:
        if type(uid) is int and uid >= 0:
            known.add(uid)
        else:
            anybody = True
    return Users(frozenset(known), anybody or (_NOBODY in known and os.getuid() != _NOBODY))


def wait_until_free(
    run_id: str, timeout: float, on_wait: Callable[[], None] = lambda: None, *, users: Users | None = None, take_over: bool = False
) -> Left:
    """Waits, at most `timeout` seconds, until no process of an old run lives on this host; `on_wait` is called once if it has to wait.

    `users`: of that run's processes (default: the caller). `take_over`: what is unsure is not waited for.
    """
    until = time.monotonic() + timeout
    pause, longest = _POLL
    first = True
    known, anybody = users or own_user()
    with closing(fence.Watch(_bytes(run_id), fence.BESIDE, known, anybody)) as watch:
        while True:
            alive, unsure = watch.look()
            left = Left(_shown(alive), _shown(unsure), _shown(name for name, _ in watch.foreign))
            seconds = until - time.monotonic()
            if left.free or seconds <= 0 or (take_over and not alive):
                return left
            if first:
                on_wait()
                first = False
            time.sleep(min(pause, seconds))
            pause = min(pause * 1.5, longest)


def _bytes(run_id: str) -> bytes:
    return run_id.encode("utf-8", "surrogateescape")


def _shown(taken: Iterable[bytes]) -> list[str]:
    return sorted(visible("@" + name.decode("utf-8", "surrogateescape")) for name in taken)
