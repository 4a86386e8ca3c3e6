"""What listens is not moved by those who do not belong there: each gets a closed connection and a line in the log, and the run goes on."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attach.meeting import Meeting, gated
from harness import Taskrun, until

LOOK = b'{"k":"look"}'
HEAD = struct.Struct(">cII")
SECONDS = 20.0


@pytest.fixture
def meeting(taskrun: Taskrun) -> Iterator[Meeting]:
    """A run whose first task runs. Whatever was done to it meanwhile: it must go on, and end well."""
    found = Meeting(taskrun, gated(3), "-s", "localhost:1", "--grace", "1")
    yield found
    found.go()
    result = found.running.finish()
    assert (result.code, result.err) == (0, result.err.replace("Traceback", ""))
    assert len(found.ran()) == 3
    assert "Error" not in found.log()


class Stranger:
    """Written apart from taskrun's own side, on purpose: it can say anything."""

    def __init__(self, meeting: Meeting, **more: Any) -> None:
        self.invitation = {**meeting.invitation, **more}
        host, port = meeting.invitation["addresses"][0]
        self.raw = socket.create_connection((host, port), SECONDS)
        self.tls: Any = None

    def shake(self) -> Stranger:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.tls = context.wrap_socket(self.raw)
        shown = self.tls.getpeercert(binary_form=True)
        assert hashlib.sha256(shown).hexdigest() == self.invitation["fingerprint"]
        return self

    def frame(self, kind: bytes, channel: int, data: bytes, size: int | None = None) -> None:
        self.tls.sendall(HEAD.pack(kind, channel, len(data) if size is None else size) + data)

    def say(self, **message: Any) -> None:
        self.frame(b"C", 0, json.dumps(message).encode())

    def hear(self) -> dict[str, Any]:
        """The next control frame; other frames are passed over."""
        while True:
            kind, _, size = HEAD.unpack(self._read(HEAD.size))
            data = b"" if kind == b"W" else self._read(size)
            if kind == b"C" and (message := json.loads(data))["k"] != "beat":
                answer: dict[str, Any] = message
                return answer

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            chunk = self.tls.recv(size - len(data))
            if not chunk:
                raise EOFError
            data += chunk
        return data

    def prove(self, role: str = "join", key: str = "") -> dict[str, Any]:
        nonce = secrets.token_hex(32)
        self.say(k="hello", protocol=2, role=role, nonce=nonce)
        greeting = self.hear()
        known = self.invitation

        def proof(side: str) -> str:
            text = "\0".join(("taskrun attach", "2", side, role, known["fingerprint"], greeting["run"], greeting["nonce"], nonce))
            return hmac.new((key or known["secret" if role == "join" else "control"]).encode(), text.encode(), "sha256").hexdigest()

        self.say(k="prove", proof=proof("guest"))
        answer = self.hear()
        if answer["k"] == "proven":
            assert answer["proof"] == proof("run")
        return answer

    def join(self, **more: Any) -> None:
        offer = ["evil", "evil", 1, 1, 1, {}, {}]
        self.say(**{"k": "join", "label": "", "limit": 0, "ends_in": -1.0, "offers": [offer], "workdir": "", "env": {}, **more})

    def is_closed(self) -> bool:
        """The other side ends it, whatever it may say before."""
        sock = self.tls or self.raw
        sock.settimeout(SECONDS)
        try:
            while sock.recv(1 << 16):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        self.close()
        return True

    def rest(self) -> bytes:
        """Return what the server still sends until it ends the connection."""
        self.tls.settimeout(SECONDS)
        data = b""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while chunk := self.tls.recv(1 << 16):
                data += chunk
        self.close()
        return data

    def leave(self) -> None:
        """As a process that is killed, when all was read: no goodbye, and no reset."""
        self.tls.shutdown(socket.SHUT_WR)
        assert self.is_closed()

    def close(self) -> None:
        (self.tls or self.raw).close()


def logged(meeting: Meeting, text: str) -> None:
    until(lambda: text in meeting.log(), 15, f"`{text}` in the log")


def test_garbage(meeting: Meeting) -> None:
    stranger = Stranger(meeting)
    stranger.raw.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
    assert stranger.is_closed()
    logged(meeting, "attach: a connection from 127.0.0.1 was closed: no TLS as agreed")
    stranger = Stranger(meeting)
    stranger.raw.sendall(secrets.token_bytes(100_000))
    assert stranger.is_closed()


def test_garbage_within_tls(meeting: Meeting) -> None:
    stranger = Stranger(meeting).shake()
    stranger.tls.sendall(b"\xff" * 9)
    assert stranger.is_closed()
    logged(meeting, r"no frame begins with b'\xff'")
    for data, said in (
        (b"no JSON", "is not JSON"),
        (b"[" * 2000, "is not JSON"),
        (b"{}", "has no kind"),
        (b'{"k":"join"}', "`join` at a wrong time"),
        (b'{"k":"hello","protocol":2,"role":"king","nonce":""}', "`hello` has no role"),
        (b'{"k":"hello","protocol":1e999,"role":"join","nonce":""}', "`hello` has no number `protocol`"),
        (b'{"k":"hello","protocol":9,"role":"join","nonce":"%s"}' % (b"0" * 64), "its protocol is 9, not 2"),
    ):
        stranger = Stranger(meeting).shake()
        stranger.frame(b"C", 0, data)
        assert stranger.is_closed()
        logged(meeting, said)


def test_a_wrong_secret(meeting: Meeting) -> None:
    stranger = Stranger(meeting).shake()
    assert stranger.prove(key="guessed") == {"k": "refusal", "why": "the secret is not the one of this run"}
    assert stranger.is_closed()
    logged(meeting, "it does not know the secret")
    stranger = Stranger(meeting).shake()  # the secret for engines is none for the rest
    assert stranger.prove("control", key=meeting.invitation["secret"])["k"] == "refusal"
    assert stranger.is_closed()


def test_a_proof_is_good_for_one_connection(meeting: Meeting) -> None:
    first = Stranger(meeting).shake()
    nonce = secrets.token_hex(32)
    first.say(k="hello", protocol=2, role="join", nonce=nonce)
    greeting = first.hear()
    known = first.invitation
    text = "\0".join(("taskrun attach", "1", "guest", "join", known["fingerprint"], greeting["run"], greeting["nonce"], nonce))
    proof = hmac.new(known["secret"].encode(), text.encode(), "sha256").hexdigest()
    second = Stranger(meeting).shake()
    second.say(k="hello", protocol=2, role="join", nonce=nonce)
    second.hear()
    second.say(k="prove", proof=proof)
    assert second.hear()["k"] == "refusal"
    assert second.is_closed()
    first.close()


def test_another_runs_file(meeting: Meeting, taskrun: Taskrun) -> None:
    """Its secret is refused, and a file that leads here by mistake is found out before anything is said."""
    other = taskrun.start(
        "other.txt",
        "-p",
        "other",
        "-s",
        "localhost:1",
        "--listen",
        "127.0.0.1:0",
        files={"other.txt": "until test -e go; do sleep 0.05; done\n"},
    )
    until((taskrun.folder / "other_attach.json").exists, 20, "the other door")
    theirs = json.loads((taskrun.folder / "other_attach.json").read_text())
    stranger = Stranger(meeting).shake()
    assert stranger.prove(key=theirs["secret"])["k"] == "refusal"
    assert stranger.is_closed()
    mixed = taskrun.folder / "mixed.json"
    mixed.write_text(json.dumps({**theirs, "addresses": meeting.invitation["addresses"]}))
    mixed.chmod(0o600)
    refused = taskrun("attach", "mixed.json", "-s", "localhost:1")
    assert (refused.code, "another run listens there" in refused.err) == (2, True)
    meeting.go()
    assert other.finish().code == 0


@pytest.mark.parametrize("size", [1 << 12, (1 << 32) - 1])
def test_oversized_frames(meeting: Meeting, size: int) -> None:
    stranger = Stranger(meeting).shake()
    stranger.frame(b"C", 0, b"{", size + 1 if size == 1 << 12 else size)
    assert stranger.is_closed()
    logged(meeting, "is longer than 4096")
    stranger = Stranger(meeting).shake()
    assert stranger.prove()["k"] == "proven"
    stranger.frame(b"D", 1, b"", (1 << 15) + 1)
    assert stranger.is_closed()
    logged(meeting, "is longer than 32768")


FRAMES_OF_CHANNELS = [(b"D", 1, b"x" * 100, None), (b"E", 1, b"", None), (b"W", 1, b"", 1000)]


@pytest.mark.parametrize("greeted", [False, True])
def test_nothing_but_the_handshake_before_the_proof(meeting: Meeting, greeted: bool) -> None:
    """Channels, windows, the end of a channel, and whatever only a guest may say: closed without a word more."""
    said: list[tuple[bytes, int, bytes, int | None]] = [*FRAMES_OF_CHANNELS]
    said += [(b"C", 0, json.dumps({"k": kind, "channel": 1, "name": "", "now": True}).encode(), None) for kind in ("look", "ended", "beat")]
    said.append((b"C", 0, b'{"k":"proof"}' + b" " * 4096, None))
    for frame in said:
        stranger = Stranger(meeting).shake()
        if greeted:
            stranger.say(k="hello", protocol=2, role="join", nonce="0" * 64)
            assert stranger.hear()["k"] == "greeting"
        stranger.frame(*frame)
        assert stranger.rest() == b""
    assert meeting.log().count("a frame of a channel at a wrong time") == len(FRAMES_OF_CHANNELS)
    assert [context["name"] for context in meeting.picture()["contexts"]] == ["SSH0"]


def test_a_proof_opens_no_channels_yet(meeting: Meeting) -> None:
    """Channels come when hosts are offered; a client that only looks has none."""
    for role in ("join", "control"):
        for frame in FRAMES_OF_CHANNELS:
            stranger = Stranger(meeting).shake()
            assert stranger.prove(role)["k"] == "proven"
            stranger.frame(*frame)
            assert stranger.rest() == b""


def test_what_is_long_after_the_proof(meeting: Meeting) -> None:
    """Only who offers hosts has that much to say, once."""
    for role, first, size in (("control", False, 1 << 16), ("join", True, 1 << 16), ("join", False, 1 << 22)):
        stranger = Stranger(meeting).shake()
        assert stranger.prove(role)["k"] == "proven"
        if first:
            stranger.join()
            assert stranger.hear()["k"] == "joined"
        stranger.frame(b"C", 0, b"{", size + 1)
        assert stranger.is_closed()
        logged(meeting, f"a frame of {size + 1} bytes is longer than {size}")
    stranger = Stranger(meeting).shake()
    assert stranger.prove()["k"] == "proven"
    stranger.frame(b"C", 0, b'{"k":"join","offers":[' + b"{}," * 100_001 + b"0]}")
    assert stranger.is_closed()
    logged(meeting, "a control frame has more than 100000 parts")


def test_half_frames(meeting: Meeting) -> None:
    stranger = Stranger(meeting).shake()
    assert stranger.prove()["k"] == "proven"
    stranger.frame(b"C", 0, b'{"k":', 100)
    stranger.leave()
    logged(meeting, "it ended in the middle of a frame")
    stranger = Stranger(meeting)
    stranger.raw.sendall(b"\x16\x03\x01")
    stranger.close()
    logged(meeting, "it ended before it was established")


@pytest.mark.long
def test_silence(meeting: Meeting) -> None:
    began = time.monotonic()
    mute, shaken, greeted = Stranger(meeting), Stranger(meeting).shake(), Stranger(meeting).shake()
    greeted.say(k="hello", protocol=2, role="join", nonce="0" * 64)
    assert all(each.is_closed() for each in (mute, shaken, greeted))
    assert time.monotonic() - began >= 9.5
    until(lambda: meeting.log().count("it did not prove anything within 10 s") == 3, 15, "three lines")


def test_too_many(meeting: Meeting) -> None:
    strangers = [Stranger(meeting) for _ in range(40)]
    logged(meeting, "there are too many")
    guest = meeting.attach("-s", "localhost:1")  # while they are silent
    meeting.wait_for(1, 1)
    for stranger in strangers:
        stranger.close()
    until(lambda: meeting.log().count("\n") > 20, 10, "a line for each")
    assert meeting.log().count("\n") < 45
    meeting.go()
    assert guest.finish().code == 0


def test_who_asks_and_does_not_listen(meeting: Meeting) -> None:
    """What is kept for it is bounded, and so is what it has the run do."""
    stranger = Stranger(meeting).shake()
    assert stranger.prove("control")["k"] == "proven"
    asked = b"".join(HEAD.pack(b"C", 0, len(LOOK)) + LOOK for _ in range(1000))
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        for _ in range(100):
            stranger.tls.sendall(asked)
    stranger.close()
    logged(meeting, "it asks for more while it has no answer yet")


JOINS: list[dict[str, Any]] = [
    {"offers": [["evil", "../../etc/evil", 1, 1, 1, {}, {}]]},
    {"offers": [["evil", "..", 1, 1, 1, {}, {}]]},
    {"offers": [["evil", "e\nvil", 1, 1, 1, {}, {}]]},
    {"offers": [["evil", "e\x1b[2Jvil", 1, 1, 1, {}, {}]]},
    {"offers": [["evil", "evil", 1, 10**9, 1, {}, {}]]},
    {"offers": [["evil", "evil", 1, True, 1, {}, {}]]},
    {"offers": [["evil", "evil", 1, 1, -1, {}, {}]]},
    {"offers": [["evil", "evil", 1, 1, 1, {}, {"A=B": ""}]]},
    {"offers": [["evil", "evil", 1, 1, 1, {"gpus": {}}, {}]]},
    {"offers": [["evil", "evil", 1, 1, 1, {}, {}]] * 2},
    {"offers": []},
    {"offers": 1},
    {"limit": -1},
    {"label": "x" * 65},
    {"label": "two\nlines"},
    {"env": {"A": "\0"}},
    {"env": {"A": 1}},
    {"ends_in": 1e300},
    {"label": "a/b"},  # it is part of the names of places
]


def test_joins_that_cannot_be(hostile: Callable[[], Stranger]) -> None:
    for more in JOINS:
        stranger = hostile()
        stranger.join(**more)
        assert stranger.is_closed()


@pytest.fixture
def hostile(meeting: Meeting) -> Callable[[], Stranger]:
    def make() -> Stranger:
        stranger = Stranger(meeting).shake()
        assert stranger.prove()["k"] == "proven"
        return stranger

    return make


def agent(stranger: Stranger, *frames: dict[str, Any] | bytes) -> int:
    """Plays the agent that the run wants started. Its channel."""
    stranger.join()
    assert stranger.hear() == {"k": "joined", "context": "SSH1"}
    start = stranger.hear()
    assert (start["k"], start["address"]) == ("start", "evil")
    data = b"taskrun-agent:\n"
    for frame in frames:
        body = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        data += struct.pack(">I", len(body)) + body
    stranger.frame(b"D", start["channel"], data)
    channel: int = start["channel"]
    return channel


def test_more_engines_than_there_are_descriptors(taskrun: Taskrun) -> None:
    taskrun.command = ("/bin/sh", "-c", 'ulimit -n 1000; exec "$0" "$@"', *taskrun.command)
    meeting = Meeting(taskrun, gated(1), "-s", "localhost:1")
    stranger = Stranger(meeting).shake()
    assert stranger.prove()["k"] == "proven"
    stranger.join(offers=[[f"evil{number}", "evil", 1, 1, 1, {}, {}] for number in range(151)])
    answer = stranger.hear()
    assert (answer["k"], "attached engines (ulimit -n)" in answer["why"]) == ("refusal", True)
    assert stranger.is_closed()
    meeting.go()
    assert meeting.running.finish().code == 0


HELLO = {"k": "hello", "protocol": 1, "host": "evil", "pid": 1, "cores": 1}


def test_an_agent_that_lies(hostile: Callable[[], Stranger], meeting: Meeting) -> None:
    """Who knows the secret may say it ran its tasks; of other tasks it says nothing that counts."""
    stranger = hostile()
    done = {"k": "done", "t": [], "r": [["task", 0, 1, "ok", 0, 1, 0, 1.0, 2.0, 1.0, 0.0, 0.0, 0, 0, "", 0, "", False]]}
    now = time.time()
    ready = {"k": "ready", "starter": "evil", "slots": 1, "shared": True, "came": now, "now": now}
    agent(stranger, HELLO, ready, done)
    until(lambda: any(event["what"] == "joined" and event["engine"] == "evil_1" for event in events(meeting, "engine")), 10, "it to join")
    until(lambda: events(meeting, "late"), 10, "its lie to be seen")
    stranger.leave()
    until(lambda: "who attached it has gone" in meeting.running.said()[1], 10, "it to be gone")


def events(meeting: Meeting, kind: str) -> list[dict[str, Any]]:
    lines = meeting.path("events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == kind]


def test_an_agent_that_speaks_garbage(hostile: Callable[[], Stranger], meeting: Meeting) -> None:
    stranger = hostile()
    agent(stranger, HELLO, b"garbage")
    until(lambda: "the agent does not speak as agreed" in meeting.running.said()[1], 10, "it to be seen")
    stranger.close()


def test_more_than_the_window_has_room_for(hostile: Callable[[], Stranger], meeting: Meeting) -> None:
    """A frame of 64 MiB may come, but not faster than it is taken."""
    stranger = hostile()
    channel = agent(stranger)
    stranger.frame(b"W", channel, b"", 1)
    assert stranger.is_closed()
    logged(meeting, "a window was opened wider than it is")


def test_channels_that_are_none(hostile: Callable[[], Stranger], meeting: Meeting) -> None:
    stranger = hostile()
    agent(stranger, HELLO)
    for kind in (b"D", b"E"):
        stranger.frame(kind, 4711, b"x" if kind == b"D" else b"")
    stranger.say(k="failed", channel=4711, why="\x1b[2J", permanent=True, lives_on=False)
    stranger.say(k="ended", channel=4711)
    stranger.say(k="detach", name="SSH0", now=True)  # another's: not with this secret
    assert stranger.is_closed()
    logged(meeting, "SSH1: it wants to detach what is not its own")
    assert [context["state"] for context in meeting.picture()["contexts"] if context["name"] == "SSH0"] == ["running"]


def test_a_stopped_door_keeper_stops_nothing(meeting: Meeting) -> None:
    """Somebody who connects again and again, and says nothing, does not keep others out for longer than he is allowed to."""
    for _ in range(30):
        Stranger(meeting).close()
    guest = meeting.attach("-s", "localhost:1")
    meeting.wait_for(1, 1)
    meeting.go()
    assert guest.finish().code == 0
