"""The held descriptor: a name that stays taken on this host as long as any process of a run lives.

It is a Unix socket in the abstract name space, bound and never listened to. The driver binds it, agents and slots inherit it, and the
kernel frees the name when the last of them is gone, however they went. No file is left behind and no file system is asked.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import socket
import time
from collections.abc import Callable

from taskrun.errors import Refused

_LONGEST = 90  # an abstract name has room for 107 bytes
_BESIDE = 64  # more names of a run on one host, for who attaches to it
_POLL = (0.02, 0.25)  # seconds between looks: the first, the longest


def _address(run_id: str, number: int = 0) -> bytes:
    name = run_id.encode("utf-8", "surrogateescape")
    short = name if len(name) <= _LONGEST else hashlib.sha256(name).hexdigest().encode()
    return b"\0taskrun-" + short + (b"+%d" % number if number else b"")


def hold(run_id: str) -> socket.socket:
    """Takes the name of the run.

    Hand the descriptor on (`pass_fds`) to every process that must be gone before a resume. Raises Refused if the name is taken.
    """
    held = _bind(run_id)
    if held is None:
        raise Refused(f"run {run_id} still has processes on this host: wait until they are gone")
    return held


def hold_beside(run_id: str) -> socket.socket:
    """The same for processes of the run that its driver has not started: another name, for which a resume waits, too. Raises Refused."""
    for number in range(1, _BESIDE + 1):
        held = _bind(run_id, number)
        if held is not None:
            return held
    raise Refused(f"more than {_BESIDE} contexts of this host are attached to run {run_id}: use more slots in fewer of them")


def wait_until_free(run_id: str, timeout: float, on_wait: Callable[[], None] = lambda: None) -> bool:
    """Waits, at most `timeout` seconds, until no process of an old run lives on this host; `on_wait` is called once if it has to wait.

    False: some still live.
    """
    until = time.monotonic() + timeout
    pause, longest = _POLL
    first = True
    while True:
        if all(map(functools.partial(_is_free, run_id), range(_BESIDE + 1))):
            return True
        if first:
            on_wait()
            first = False
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, longest)


def _is_free(run_id: str, number: int) -> bool:
    probe = _bind(run_id, number)
    if probe is not None:
        probe.close()
    return probe is not None


def _bind(run_id: str, number: int = 0) -> socket.socket | None:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.bind(_address(run_id, number))
    except OSError as error:
        one.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return one
