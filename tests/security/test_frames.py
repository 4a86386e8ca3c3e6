"""One frame of a hostile agent takes little of the driver: it is refused by its length, or by its head, or takes a bounded time and memory.

Honest agents send no long frames, whatever their tasks say.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from fuzz import generated
from fuzz.test_hostile_agent import Pretender, Stage, speak
from harness import Taskrun

from taskrun.agent import wire
from taskrun.agent.loop import Agent, key_size, row_size
from taskrun.driver import crew, member
from taskrun.driver.recorder import LATE_MOST, Recorder
from taskrun.engines import frames
from taskrun.scheduling.messages import Late
from taskrun.staging.sums import NoPython, Sums
from taskrun.status.events import EventsWriter

MIB = 1 << 20
START = wire.MARKER + b"\n" + generated.framed(generated.FRAMES["hello"]) + generated.framed(generated.FRAMES["ready"])


def prefixed(length: int, head: bytes) -> bytes:
    """The beginning of a frame of that length."""
    return struct.pack(">I", length) + head


def fed(data: bytes, size: int = 1 << 18) -> tuple[list[dict[str, Any]], int]:
    """Return what a decoder makes of the data, in the pieces that a link reads, and the most bytes that it kept."""
    decoder = frames.Decoder()
    found, kept = [], 0
    for at in range(0, len(data), size):
        found += decoder.feed(data[at : at + size])
        kept = max(kept, len(decoder.data))
    return found, kept


@pytest.mark.parametrize(
    ("length", "head", "why"),
    [
        (60 * MIB, b'{"k":"done","r":[', "a frame of 62914560 bytes is longer than 4194304"),
        (4 * MIB + 1, b"", "longer than 4194304"),
        ((1 << 32) - 1, b"", "longer than 4194304"),
        ((1 << 16) + 1, b'{"k":"note","level":"warning","text":"', "that is no list of attempts is longer than 65536"),
        ((1 << 16) + 1, b'{"k":"what a newer agent says","x":', "that is no list of attempts is longer than 65536"),
        ((1 << 16) + 1, b'{"r":[],"k":"done"' + b" " * 32, "that is no list of attempts is longer than 65536"),
        ((1 << 16) + 1, b" " * 40 + b'{"k":"done"', "that is no list of attempts is longer than 65536"),
        ((1 << 16) + 1, b'{"k":"lost \\u', "that is no list"),
    ],
)
def test_a_long_frame_is_refused_before_it_comes(length: int, head: bytes, why: str) -> None:
    decoder = frames.Decoder()
    with pytest.raises(wire.BadFrame, match=why):
        decoder.feed(prefixed(length, head) + b"x" * 32)
    assert len(decoder.data) < 200


def test_the_head_may_come_in_pieces() -> None:
    body = b'{"k":"lost","keys":[' + b",".join(b'["task",%d,1]' % number for number in range(10_000)) + b"]}"
    (message,), _ = fed(prefixed(len(body), body), 3)
    assert len(message["keys"]) == 10_000
    decoder = frames.Decoder()
    for byte in prefixed(len(body), b'{"k":"note"' + b" " * 20):
        assert decoder.feed(bytes([byte])) == []
    with pytest.raises(wire.BadFrame, match="that is no list of attempts"):
        decoder.feed(b" ")


def test_frames_that_may_come() -> None:
    row = b'["task",123456,1,"ok",0,99,0,1.0,2.0,1.0,0.1,0.1,4096,0,"",0,"",false]'
    body = b'{"k":"done","r":[' + b",".join([row] * 30_000) + b'],"t":[]}'
    assert 2 * MIB < len(body) < 4 * MIB
    (message,), kept = fed(prefixed(len(body), body))
    assert kept < 5 * MIB
    done = frames.message_of(message)
    assert isinstance(done, frames.Done)
    assert len(done.results) == 30_000
    small = b'{"x":"' + b"y" * (65536 - 20) + b'","k":"new"}'
    assert fed(prefixed(len(small), small))[0][0]["k"] == "new"


WORST = r"""
import struct, sys, time
from taskrun.agent import wire
from taskrun.engines import frames, relay, tls

SIZE = 4 << 20

def peak():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) >> 10

def filled(unit, head=b'{"k":"done","r":[', tail=b'],"t":[]}'):
    return head + (unit * ((SIZE - len(head) - len(tail)) // len(unit)))[:-1] + tail

def mixed():
    head = b'{"k":"done","r":[' + b'{"":0},' * 32000
    return filled(b"999,", head)

def pairs():
    return b'{"k":"done",' + b",".join(b'"%d":0' % number for number in range(380000)) + b"}"

made = [
    lambda: b'{"k":"done","r":' + b"[" * (SIZE - 16),
    lambda: (b'{"k":"done","r":' + b'{"a":' * SIZE)[:SIZE],
    lambda: filled(b"[],"), lambda: filled(b'{"":0},'), lambda: filled(b"1,"), lambda: filled(b"1e308,"), lambda: filled(b'"ab",'),
    lambda: filled(b'["task",1,1],'), lambda: b'{"k":"done","r":' + b"1" * (SIZE - 17) + b"}", mixed, pairs,
]
base = peak()
slowest = 0.0
for make in made:
    body = make()
    data = struct.pack(">I", len(body)) + body
    for read in (lambda: decoder.feed(data[at : at + (1 << 18)]), lambda: at or relay._message(body)):
        decoder = frames.Decoder()
        for at in range(0, len(data), 1 << 18):
            began = time.process_time()
            try:
                found = read()
                if isinstance(found, list):
                    [frames.message_of(each) for each in found]
                found = None
            except (wire.BadFrame, tls.Broken):
                break
            finally:
                slowest = max(slowest, time.process_time() - began)
        decoder = found = None
    body = data = None
print(peak() - base, slowest)
"""


def test_the_worst_frames_that_may_come_take_little() -> None:
    """Of which each is kept twice by this test itself."""
    done = subprocess.run([sys.executable, "-c", WORST], capture_output=True, text=True, timeout=120, check=True)
    mebibytes, seconds = map(float, done.stdout.split())
    assert mebibytes < 100
    assert seconds < 2.0  # of CPU; 0.3 on a machine with nothing else to do


def test_the_link_of_who_sends_more_is_closed(tmp_path: Path) -> None:
    with mock.patch.object(member, "LocalAgent", Pretender):
        stage = Stage(tmp_path)
        try:
            speak(stage, START, 5000)
            speak(stage, prefixed(60 * MIB, b'{"k":"done","r":[' + b" " * 32), 5000)
            assert Pretender.made[0].link.closed
            assert not stage.scheduler.finished  # what it ran has the grace to end, as with any that breaks the rules
            assert not [text for _, text in stage.notes if "Traceback" in text]
            assert ("warning", "vm: the agent does not speak as agreed: a frame of 62914560 bytes is longer than 4194304") in stage.notes
        finally:
            stage.close()


def test_one_that_sends_without_end_does_not_keep_the_others_waiting(tmp_path: Path) -> None:
    """A turn of the loop reads a link once, and no more than a quarter of a MiB."""
    with mock.patch.object(member, "LocalAgent", Pretender):
        stage = Stage(tmp_path)
        try:
            speak(stage, START, 5000)
            agent = Pretender.made[0]
            agent.link.read()
            os.set_blocking(agent.mouth, False)
            beat = generated.framed(generated.FRAMES["beat"])
            with contextlib.suppress(BlockingIOError):
                while os.write(agent.mouth, beat * 1000):
                    pass
            received = agent.link.read()
            assert received is not None
            assert 0 < len(received) <= (1 << 18) // len(beat) + 1
        finally:
            stage.close()


def test_what_an_agent_says_is_not_quoted_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "QUOTES_MOST", 3)
    with mock.patch.object(member, "LocalAgent", Pretender):
        stage = Stage(tmp_path)
        try:
            speak(stage, START + generated.framed(generated.FRAMES["note"]) * 50, 5000)
            assert [text for _, text in stage.notes] == ["vm: words"] * 3 + ["vm: its agent has said 3 things, and the rest is left out"]
        finally:
            stage.close()


# honest agents


class Slots:
    """Return what an agent reports."""

    def __init__(self, rows: list[tuple[Any, ...]], held: list[tuple[Any, ...]]) -> None:
        self.results = rows
        self.running = held
        self.peers = {number: SimpleNamespace(task=task) for number, task in enumerate(held)}


def reported(rows: list[tuple[Any, ...]], held: list[tuple[Any, ...]]) -> tuple[list[frames.Done], list[int]]:
    """Return what the driver hears of one report, and the lengths of its frames."""
    sent: list[dict[str, Any]] = []
    agent = mock.Mock(slots=Slots(rows, held), send=lambda *messages: sent.extend(messages))
    Agent.report(agent)
    encoded = [wire.frame(message) for message in sent]
    decoder = frames.Decoder()
    return [frames.message_of(each) for data in encoded for each in decoder.feed(data)], [len(data) - 4 for data in encoded]  # type: ignore[misc]


def row(number: int, out: bytes, err: bytes) -> tuple[Any, ...]:
    return ("task", number, 1, "exit", 255, 2**22, 65535, 1.1e9, 1.1e9, 1 / 3, 1 / 3, 1 / 3, 2**62, 2**59, out, 2**59, err, True)


@pytest.mark.parametrize("text", [b"", b"\xff" * 83, b"[{" * 41, b"\0" * 4096], ids=["silent", "binary", "brackets", "long"])
def test_thousands_of_results_at_once_go_in_frames_of_a_sane_size(text: bytes) -> None:
    rows = [row(10**17 + number, text, text[:83]) for number in range(3000)]
    held = [("task", 10**17 + number, 2**31 - 1, 1, -1, b"x" * 3000, None) for number in range(3000)]
    done, sizes = reported(list(rows), list(held))
    assert max(sizes) <= frames.SMALL_MOST
    assert [tuple(result)[:3] for each in done for result in each.results] == [each[:3] for each in rows]
    assert [key for each in done for key in each.taken] == [each[:3] for each in held]


def test_a_short_report_is_one_frame() -> None:
    done, _ = reported([row(number, b"out", b"") for number in range(40)], [("task", 99, 1, 1, -1, b"true", None)])
    assert [(len(each.results), each.taken) for each in done] == [(40, [("task", 99, 1)])]


def test_sizes_are_not_less_than_they_are() -> None:
    for text in (b"", b"\xff" * 83, b'"\\' * 20, "日本".encode() * 10):
        one = row(10**18 - 1, text, text)
        shown = [each.decode("utf-8", "surrogateescape") if isinstance(each, bytes) else each for each in one]
        assert len(json.dumps(shown)) <= row_size(one)
    assert len(json.dumps(["start", 10**18 - 1, 2**31 - 1])) <= key_size(())


def test_a_run_with_many_tasks_and_the_longest_line(taskrun: Taskrun) -> None:
    """Of the first the agent has a batch, the last is shown by its output alone."""
    text = "true\n" * 1000 + "printf '\\377%.0s' {1..200} >&2; exit 3; : " + "x" * (3 * MIB - 100) + "\n"
    result = taskrun("tasks.txt", "-s", "localhost:2", "-p", "one", files={"tasks.txt": text})
    assert (result.code, len(result.records())) == (0, 1001), result.err
    assert "does not speak as agreed" not in result.err


# lines of sessions with hosts


class Channel:
    """A session in which somebody says one thing again and again."""

    closed = False

    def __init__(self, said: bytes, *first: bytes) -> None:
        self.said = said
        self.first = list(first)
        self.count = 0

    def recv(self, size: int) -> bytes:
        self.count += 1
        assert self.count < 2000, "it is listened to without end"
        return self.first.pop(0) if self.first else self.said[:size]

    def sendall(self, data: bytes) -> None:
        """Nobody reads it."""

    def close(self) -> None:
        self.closed = True


def test_noise_before_an_answer_has_an_end() -> None:
    """A login shell may say something first, but not for ever."""
    noise = (b"noise " * 100 + b"\n") * 200
    assert Sums(lambda: Channel(noise), (NoPython,))("/x") is None


def test_results_of_what_it_was_never_given_fill_no_file(tmp_path: Path) -> None:
    """Of each engine some are kept as events, and that there were more."""
    path = tmp_path / "run_events.jsonl"
    writer = EventsWriter(path, sync_seconds=60)
    recorder = Recorder(SimpleNamespace(), writer, str)  # type: ignore[arg-type]
    result = frames.Done([frames._result(["task", 5, 1, "ok", 0, 9, 0, 1.0, 2.0, 1.0, 0.1, 0.1, 0, 0, "", 0, "", False])], []).results[0]
    for engine in ("hostile_0", "honest_1"):
        for _ in range(LATE_MOST * 3 if engine == "hostile_0" else 3):
            recorder.late(Late(engine, result))
    writer.close()
    events = [json.loads(line) for line in path.read_text().splitlines()]
    said = [(event["engine"], event.get("more", False)) for event in events]
    assert said == [("hostile_0", False)] * (LATE_MOST - 1) + [("hostile_0", True)] + [("honest_1", False)] * 3


def test_the_end_of_an_output_is_bounded() -> None:
    row = ["task", 1, 1, "exit", 1, 99, 0, 1.0, 2.0, 1.0, 0.1, 0.1, 4096, 0, "", 0, "", False]
    for tail in ("", "x" * 1024, "\udcff"):
        (result,) = frames.message_of({"k": "done", "r": [[*row, tail]], "t": []}).results  # type: ignore[union-attr]
        assert result.tail == tail.encode("utf-8", "surrogateescape")
    for bad in ("x" * 1025, "é" * 600, "\ud800", 7, None, ["x"]):
        with pytest.raises(wire.BadFrame, match="an end of its output that it cannot have"):
            frames.message_of({"k": "done", "r": [[*row, bad]], "t": []})
    with pytest.raises(wire.BadFrame, match="18 fields"):
        frames.message_of({"k": "done", "r": [[*row, "", ""]], "t": []})
