"""Who connects to a run that lives: finds it by the names of its files, makes sure that it is the one, proves to be allowed."""

from __future__ import annotations

import hmac
import secrets
import select
import selectors
import socket
import time
from collections import deque
from pathlib import Path
from typing import Any

from taskrun.driver import files
from taskrun.driver.attach import is_near, parse_address
from taskrun.engines import attach_frames as at
from taskrun.engines.invitation import Invitation, load
from taskrun.engines.relay import CONTROL_MOST, CONTROL_SMALL, Mux
from taskrun.engines.tls import Broken, SecureStream, pinning_context
from taskrun.errors import Refused
from taskrun.status import names, owner, sidecar, trust

CONNECT_SECONDS = 10.0  # for each address, and for each answer
OPENS_WITHIN = 5.0  # seconds in which a run that has just begun opens its door


def prefix_of(name: str) -> Path:
    """The prefix of a run, by itself or by one of its files."""
    path = files.absolute(name)
    for suffix in (names.ATTACH, names.SIDECAR, names.EVENTS, names.STATUS):
        if path.name.endswith(suffix) and path.name != suffix:
            return path.with_name(path.name.removesuffix(suffix))
    return path


def find(name: str) -> Invitation:
    """What a run says about how to attach to it. Waits for one that has just begun. Raises Refused."""
    prefix = prefix_of(name)
    given = files.absolute(name)
    path = given if given.is_file() and given.suffix == ".json" and not given.name.endswith(names.SIDECAR) else None
    path = path or names.with_suffix(prefix, names.ATTACH)
    until = time.monotonic() + OPENS_WITHIN
    while True:
        try:
            return load(path)
        except FileNotFoundError:
            why = why_not(prefix)
            if why is not None or time.monotonic() > until:
                listens = f"{prefix}: the run lives, but lets nobody attach: see {prefix.name}{names.DRIVER_LOG}"
                raise Refused(why or listens) from None
        time.sleep(0.05)


def why_not(prefix: Path) -> str | None:
    """Why there is nothing to attach to, None if there should be."""
    try:
        earlier = sidecar.load(names.with_suffix(prefix, names.SIDECAR), obeyed=False)
    except Refused:
        if not names.with_suffix(prefix, names.LOCK).exists():
            return f"there is no run {prefix}: name it as in the names of its files, PREFIX{names.STATUS}"
        return None
    status = prefix.with_name(earlier.status)
    if earlier.ended is None and earlier.options.get("use_address", {}).get("value") == "off":
        return f"{prefix}: the run lets nobody attach (--use-address off)"
    if earlier.ended is not None:
        return f"{prefix}: the run has ended; taskrun -r {status} carries on what is left of it"
    if is_dead(prefix):
        return f"{prefix}: the run was killed; taskrun -r {status} carries it on"
    return None


def is_dead(prefix: Path) -> bool:
    """The run's driver is gone for certain: it was killed on this host."""
    try:
        with trust.opened(names.with_suffix(prefix, names.LOCK), obeyed=False) as file:
            held = owner.from_json(file.read(1 << 16))
    except OSError:
        return True
    return held is not None and owner.life_of(held) == "dead"


class Caller:
    """A connection to a run, with what both sides know of each other proved."""

    def __init__(self, name: str, role: at.Role, use_address: str | None = None) -> None:
        """`name`: of the run, or a file that was given away. Raises Refused."""
        invitation = find(name)
        secret = invitation.control if role == "control" else invitation.secret
        if not secret:
            raise Refused(f"{name} was given for bringing engines, and for nothing else: ask who runs it")
        self.run_id = invitation.run_id
        self.selector = selectors.DefaultSelector()
        self.broken: Broken | None = None
        self._answers: deque[at.Message] = deque()
        self._expected: tuple[type, ...] = ()
        self._prefix = prefix_of(name)
        stream = self._connect(invitation, use_address)
        self.mux = Mux(stream, self.selector, self._control, self._broke, self._eof, self._end, channels=role == "join")
        self.mux.control_most = CONTROL_SMALL
        try:
            self.proven = self._prove(invitation, role, secret)
            self.mux.control_most = CONTROL_MOST
        except Refused:
            self.close()
            raise

    def _connect(self, invitation: Invitation, use_address: str | None) -> SecureStream:
        addresses = invitation.addresses
        if use_address is not None:
            where = parse_address(use_address)
            if where is None or not where.host or not where.port:
                raise Refused(f"--use-address {use_address}: write HOST:PORT of where the run can be reached from here")
            addresses = [(where.host, where.port)]
        problems = []
        for host, port in addresses:
            try:
                sock = socket.create_connection((host, port), CONNECT_SECONDS)
            except (OSError, UnicodeError, OverflowError) as error:
                problems.append(f"{host}:{port}: {getattr(error, 'strerror', None) or error}")
                continue
            try:
                stream = self._secure(sock)
            except Broken as error:
                sock.close()
                problems.append(f"{host}:{port}: {error}")
                continue
            if hmac.compare_digest(stream.fingerprint, invitation.fingerprint):
                return stream
            stream.close()
            problems.append(f"{host}:{port}: another run listens there")
        self.selector.close()
        if is_dead(self._prefix) and names.with_suffix(self._prefix, names.SIDECAR).exists():
            raise Refused(why_not(self._prefix) or f"{self._prefix}: the run is gone")
        near = "it listens for its own machine alone" if is_near(addresses) else "this machine may not reach it"
        raise Refused(
            f"the run cannot be reached ({'; '.join(problems)}): it may have ended, or {near} (start it with --use-address HOST:PORT)"
        )

    @staticmethod
    def _secure(sock: socket.socket) -> SecureStream:
        """Raises Broken."""
        stream = SecureStream(sock, pinning_context(), server_side=False)
        stream.begin()
        until = time.monotonic() + CONNECT_SECONDS
        while not stream.established:
            if not select.select([sock], [], [], max(0.0, until - time.monotonic()))[0]:
                raise Broken(f"no answer within {CONNECT_SECONDS:.0f} s")
            stream.read()
        return stream

    def _prove(self, invitation: Invitation, role: at.Role, secret: str) -> at.Proven:
        nonce = secrets.token_hex(32)
        greeting = self.ask(at.Hello(at.PROTOCOL, role, nonce), at.Greeting)
        assert isinstance(greeting, at.Greeting)

        def proof(side: Any) -> str:
            return at.proof(secret, side, role, invitation.fingerprint, invitation.run_id, (greeting.nonce, nonce))

        proven = self.ask(at.Prove(proof("guest")), at.Proven)
        assert isinstance(proven, at.Proven)
        if not hmac.compare_digest(proven.proof, proof("run")):
            raise Refused("what listens there does not know the secret of the run: it is something else")
        return proven

    # talking

    def say(self, message: at.Message) -> None:
        self.mux.send(at.frame_of(message))

    def ask(self, message: at.Message, kind: type, *others: type) -> at.Message:
        """The answer, of this kind; `others` may come at once after it. Raises Refused, with the run's words if it refuses."""
        self.expect(kind, at.Refusal, at.Beat, *others)
        self.say(message)
        until = time.monotonic() + CONNECT_SECONDS
        while True:
            while self._answers:
                answer = self._answers.popleft()
                if isinstance(answer, at.Refusal):
                    raise Refused(answer.why)
                if isinstance(answer, kind):
                    return answer
            if self.broken is not None or time.monotonic() > until:
                raise Refused(f"the run does not answer: {self.broken or f'nothing within {CONNECT_SECONDS:.0f} s'}")
            self.wait(until - time.monotonic())

    def expect(self, *kinds: type) -> None:
        self._expected = kinds

    def wait(self, seconds: float) -> None:
        """One look at all that is registered with the selector."""
        for key, events in self.selector.select(max(0.0, seconds)):
            if self.selector.get_map().get(key.fd) is key:
                key.data(events)

    def answers(self) -> list[at.Message]:
        """What has come."""
        answers = list(self._answers)
        self._answers.clear()
        return answers

    def close(self) -> None:
        self.mux.close()
        self.selector.close()

    def _control(self, frame: dict[str, Any]) -> None:
        try:
            self._answers.append(at.message_of(frame, *self._expected, at.Beat))
        except at.Bad as error:
            raise Broken(str(error)) from None

    def _broke(self, error: Broken) -> None:
        self.broken = error

    def _eof(self, _channel: int) -> bool:
        """For who has links: one of them has ended. Whether the run may be told at once."""
        return True

    def _end(self, channel: int) -> None:
        """The same."""
