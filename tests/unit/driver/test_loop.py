"""The driver's loop."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable
from types import SimpleNamespace

from taskrun.driver.loop import Loop, Signals, call_ready
from taskrun.scheduling import messages as m
from taskrun.scheduling.scheduler import Policy, Scheduler


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


def test_a_warning_is_no_order_to_stop() -> None:
    """USR1 that somebody looks into is swallowed, and TERM after it is the first order, not the second."""
    with selectors.DefaultSelector() as selector:
        signals = Signals(selector)
        try:
            answers = [True, False]
            signals.warned = lambda: answers.pop(0)
            for number, told in (
                (signal.SIGUSR1, []),
                (signal.SIGUSR1, [("preempt", "SIGUSR1")]),
                (signal.SIGUSR1, [("kill", "SIGUSR1")]),
            ):
                signals.came.append(number)
                assert [tuple(each) for each in signals.events()] == told
        finally:
            signals.close()
    with selectors.DefaultSelector() as selector:
        signals = Signals(selector)
        signals.warned = lambda: True
        signals.came += [signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM]
        assert [each.how for each in signals.events()] == ["preempt", "kill"]
        signals.close()


def test_lingering_ends_when_the_time_is_over() -> None:
    """While outputs are delivered it is not only a signal that ends the run."""
    told: list[m.Told] = []
    events = SimpleNamespace(flush=lambda: None, event=lambda *_, **__: None)
    nothing = lambda *_: None  # noqa: E731
    recorder = SimpleNamespace(events=events, record=nothing, skipped=nothing, barrier=nothing, attempted=nothing, late=nothing)
    watcher = SimpleNamespace(tick=nothing, wait=nothing, told=told.append)
    with selectors.DefaultSelector() as selector:
        loop = Loop(Scheduler(Policy()), SimpleNamespace(), recorder, watcher, selector)  # type: ignore[arg-type]
        signals = Signals(selector)
        try:
            loop.tell(m.Told("preempt", "SIGTERM"))  # before
            assert loop.linger(signals, lambda: True, [])
            over = m.Told("preempt", "the allocation ends")
            assert not loop.linger(signals, lambda: False, [lambda: loop.tell(over)])
        finally:
            signals.close()
    assert [each.why for each in told] == ["SIGTERM", "the allocation ends"]
