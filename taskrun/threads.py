"""Threads of the driver, small ones, started so that a lack of room for one is an error like any other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from taskrun.errors import Refused

#: Bytes. The system's usual 8 MiB count against `ulimit -v`, and a run with many hosts has many threads.
STACK = 1 << 20


def start(work: Callable[..., Any], name: str, *arguments: Any, kept: bool = False) -> threading.Thread:
    """A running thread that does not keep the process from ending, unless it is `kept`. Raises Refused when there is no room for it."""
    threading.stack_size(STACK)
    thread = threading.Thread(target=work, args=arguments, name=name, daemon=not kept)
    try:
        thread.start()
    except RuntimeError:
        raise Refused(f"no thread can be started for {name}: raise `ulimit -v` or `ulimit -u`") from None
    return thread


def start_or_do(work: Callable[[], Any], name: str, *, kept: bool = False) -> None:
    """The same with what is short, and is done here and now where there is no room."""
    try:
        start(work, name, kept=kept)
    except Refused:
        work()
