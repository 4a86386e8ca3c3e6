"""The driver's loop."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable

from taskrun.driver.loop import call_ready


def test_what_was_let_go_meanwhile_is_not_called() -> None:
    """A link can be dropped by what another one says, or by its own other half, in the same turn."""
    pipes = [os.pipe(), os.pipe()]
    called = []
    with selectors.DefaultSelector() as selector:

        def only(mine: int, other: int) -> Callable[[], None]:
            def ready() -> None:
                called.append(mine)
                selector.unregister(other)

            return ready

        for (read, write), (other, _) in (pipes, pipes[::-1]):
            selector.register(read, selectors.EVENT_READ, only(read, other))
            os.write(write, b"x")
        call_ready(selector, 0)
        assert len(called) == 1
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)
