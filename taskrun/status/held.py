"""The held descriptor: a name that stays taken on this host as long as any process of a run lives.

It is a Unix socket in the abstract name space, bound and never listened to. The driver binds it, agents and slots inherit it, and the
kernel frees the name when the last of them is gone, however they went. No file is left behind and no file system is asked.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import time
from collections.abc import Callable

from taskrun.errors import Refused

_LONGEST = 90  # an abstract name has room for 107 bytes
_POLL = (0.02, 0.25)  # seconds between looks: the first, the longest


def _address(run_id: str) -> bytes:
    name = run_id.encode("utf-8", "surrogateescape")
    return b"\0taskrun-" + (name if len(name) <= _LONGEST else hashlib.sha256(name).hexdigest().encode())


def hold(run_id: str) -> socket.socket:
    """Takes the name of the run.

    Hand the descriptor on (`pass_fds`) to every process that must be gone before a resume. Raises Refused if the name is taken.
    """
    held = _bind(run_id)
    if held is None:
        raise Refused(f"run {run_id} still has processes on this host: wait until they are gone")
    return held


def wait_until_free(run_id: str, timeout: float, on_wait: Callable[[], None] = lambda: None) -> bool:
    """Waits, at most `timeout` seconds, until no process of an old run lives on this host; `on_wait` is called once if it has to wait.

    False: some still live.
    """
    until = time.monotonic() + timeout
    pause, longest = _POLL
    first = True
    while True:
        probe = _bind(run_id)
        if probe is not None:
            probe.close()
            return True
        if first:
            on_wait()
            first = False
        left = until - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, longest)


def _bind(run_id: str) -> socket.socket | None:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        one.bind(_address(run_id))
    except OSError as error:
        one.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return one
