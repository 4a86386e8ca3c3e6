"""One connection of somebody who attaches, and what is reached through it: agents, sessions for data. Served by the door's thread."""

from __future__ import annotations

import errno
import hmac
import itertools
import secrets
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from taskrun.engines import attach_frames as at
from taskrun.engines.relay import CONTROL_MOST, CONTROL_SMALL, Mux
from taskrun.engines.relayed import RelayedAgent, RelayedSession
from taskrun.engines.request import EngineRequest
from taskrun.engines.streams import What
from taskrun.engines.tls import Broken, SecureStream

PROVE_SECONDS = 10.0  # for the first words, and the proof
CONTROL_SECONDS = 600.0  # of silence, of somebody who only looks
SESSIONS_MOST = 4096  # at a time, with all hosts of one guest
GONE = "who attached it has gone"
WISHES_MOST = 16  # things that one asks the run for before it has done the first of them


class Known(NamedTuple):
    """What a guest is compared with, and told."""

    run_id: str
    fingerprint: str
    secrets: dict[at.Role, str]
    cpus_per_task: float
    tasks_per_node: int
    variables: list[str]
    lost_after: float

    def __repr__(self) -> str:
        return f"Known({self.run_id})"


class Host(Protocol):
    """What is done about guests in the driver's loop. Called there."""

    def join(self, guest: Guest, wanted: at.Join) -> None: ...

    def ends(self, guest: Guest, when: at.Ends) -> None: ...

    def gone(self, guest: Guest, why: str) -> None: ...

    def detach(self, guest: Guest, wanted: at.Detach) -> None: ...

    def look(self, guest: Guest) -> None: ...


class Guest:
    """`start`, `serve`, `tell`, `dismiss` and `kill` are for other threads; the rest runs in the door's."""

    def __init__(
        self,
        stream: SecureStream,
        peer: str,
        here: bool,
        selector: Any,
        known: Known,
        post: Callable[[Callable[[], None]], None],
        to_host: Callable[[Callable[[Host], None]], None],
        log: Callable[[str, str], None],
    ) -> None:
        """`here`: the connection is one of this machine with itself.

        `post`: has something called in the door's thread, `to_host` in the driver's loop.
        """
        self.peer = peer
        self.here = here
        self.known = known
        self.context = ""  # that it has joined
        self.proven = False
        self.gone = False
        self.log = log
        self.role: at.Role = "join"
        self.deadline = time.monotonic() + PROVE_SECONDS
        self.agents: dict[int, RelayedAgent] = {}
        self.sessions: dict[int, RelayedSession] = {}
        self._channels = itertools.count(1)
        self._post = post
        self._to_host = to_host
        self._wishes = 0
        self._nonces = ("", "")
        self._expected: tuple[type, ...] = (at.Hello,)
        self._acts: dict[type, Callable[[Any], None]] = {
            at.Hello: self._on_hello,
            at.Prove: self._on_prove,
            at.Join: self._on_join,
            at.Ends: lambda when: self._wish(lambda host: host.ends(self, when)),
            at.Failed: self._on_failed,
            at.Ended: self._on_ended,
            at.Detach: self._on_detach,
            at.Look: lambda _: self._wish(lambda host: host.look(self)),
            at.Beat: lambda _: None,
        }
        self.mux = Mux(stream, selector, self._control, self._broken, self._eof, self._end, channels=False)

    # for the driver's loop

    def start(self, request: EngineRequest) -> RelayedAgent:
        """Have an agent started. Raises OSError when the guest has gone."""
        if self.gone:
            raise OSError(GONE)
        channel = next(self._channels)
        agent = RelayedAgent(self, channel, request.address)
        self._post(lambda: self._open(channel, agent, request.address))
        return agent

    def serve(self, address: str, what: What, silent: float) -> RelayedSession:
        """A session with one of its hosts, for data. Raises OSError when there is none to be had any more, ConnectionError for now."""
        if self.gone:
            raise OSError(errno.ENOTCONN, GONE)
        if len(self.sessions) >= SESSIONS_MOST:
            raise ConnectionError("there are too many sessions with who attached it")
        channel = next(self._channels)
        session = RelayedSession(silent)
        self._post(lambda: self._serve(channel, session, address, what))
        return session

    def tell(self, message: at.Message) -> None:
        self._post(lambda: self.mux.send(at.frame_of(message)))

    def dismiss(self, message: at.Message) -> None:
        """The last words; then it is over."""

        def bye() -> None:
            self.mux.send(at.frame_of(message))
            self._let_go()
            self.mux.close()

        self._post(bye)

    def kill(self, channel: int) -> None:
        def act() -> None:
            self.mux.send(at.frame_of(at.Kill(channel)))
            self.mux.close_channel(channel)

        self._post(act)

    # in the door's thread

    def _open(self, channel: int, agent: RelayedAgent, address: str) -> None:
        if self.gone or self.mux.broken:
            agent.failure = GONE
            agent.far.close()
            agent.over.set()
            return
        self.agents[channel] = agent
        self.mux.open(channel, agent.far)
        self.mux.send(at.frame_of(at.Start(channel, address)))

    def _serve(self, channel: int, session: RelayedSession, address: str, what: What) -> None:
        if self.gone or self.mux.broken:
            session.end(GONE)
            session.far.close()
            return
        self.sessions[channel] = session
        self.mux.open(channel, session.far)
        self.mux.send(at.frame_of(at.Serve(channel, address, what)))

    def _eof(self, channel: int) -> bool:
        """We have let go of a link."""
        self._end(channel)
        return True

    def _end(self, channel: int) -> None:
        """It has."""
        session = self.sessions.pop(channel, None)
        if session is not None:
            session.end()

    def _control(self, frame: dict[str, Any]) -> None:
        try:
            message = at.message_of(frame, *self._expected)
        except at.Bad as error:
            raise Broken(str(error)) from None
        self._acts[type(message)](message)

    def _on_hello(self, hello: at.Hello) -> None:
        if hello.protocol != at.PROTOCOL:
            self.mux.send(at.frame_of(at.Refusal("the run was started by another version of taskrun: attach with that one")))
            raise Broken(f"its protocol is {hello.protocol}, not {at.PROTOCOL}")
        self.role = hello.role
        self._nonces = (secrets.token_hex(32), hello.nonce)
        self._expected = (at.Prove,)
        self.mux.send(at.frame_of(at.Greeting(self._nonces[0], self.known.run_id)))

    def _proof(self, side: Any) -> str:
        known = self.known
        return at.proof(known.secrets[self.role], side, self.role, known.fingerprint, known.run_id, self._nonces)

    def _on_prove(self, message: at.Prove) -> None:
        if not hmac.compare_digest(message.proof, self._proof("guest")):
            self.mux.send(at.frame_of(at.Refusal("the secret is not the one of this run")))
            raise Broken("it does not know the secret")
        known = self.known
        self.proven = True
        self.mux.control_most = CONTROL_MOST if self.role == "join" else CONTROL_SMALL
        self._expected = (at.Join, at.Beat) if self.role == "join" else (at.Detach, at.Look, at.Beat)
        self.mux.send(
            at.frame_of(at.Proven(self._proof("run"), known.cpus_per_task, known.tasks_per_node, known.variables, known.lost_after))
        )

    def _on_join(self, wanted: at.Join) -> None:
        self.mux.channels = True  # there will be some when the run has agreed
        self.mux.control_most = CONTROL_SMALL
        self._expected = (at.Ends, at.Failed, at.Ended, at.Detach, at.Beat)
        self._wish(lambda host: host.join(self, wanted))

    def _wish(self, wish: Callable[[Host], None]) -> None:
        """Have it done in the driver's loop. Raises Broken."""
        if self._wishes >= WISHES_MOST:
            raise Broken("it asks for more while it has no answer yet")
        self._wishes += 1

        def act(host: Host) -> None:
            wish(host)
            self._post(done)

        def done() -> None:
            self._wishes -= 1

        self._to_host(act)

    def _on_failed(self, message: at.Failed) -> None:
        agent = self.agents.get(message.channel)
        if agent is not None:
            agent.failure, agent.permanent = message.why, message.permanent
            agent.lives_on, agent.died = message.lives_on, message.died
        session = self.sessions.get(message.channel)
        if session is not None:
            session.failure, session.permanent = message.why, message.permanent

    def _on_ended(self, message: at.Ended) -> None:
        agent = self.agents.pop(message.channel, None)
        if agent is not None:
            agent.over.set()
            self.mux.close_channel(message.channel)

    def _on_detach(self, wanted: at.Detach) -> None:
        if self.role == "join" and wanted.name:  # its own engines are all that it may send away
            raise Broken("it wants to detach what is not its own")
        self._wish(lambda host: host.detach(self, wanted))

    def look_after(self, now: float) -> None:
        """Now and then."""
        if not self.proven and now > self.deadline:
            self.turn_out(f"it did not prove anything within {PROVE_SECONDS:.0f} s")
        elif self.proven:
            silence = self.known.lost_after if self.role == "join" else CONTROL_SECONDS
            self.mux.beat(min(15.0, max(0.2, silence / 8.0)), silence)

    def absent(self, seconds: float) -> None:
        """Shift the silence of the client by those seconds, in which this process did not run."""
        self.deadline += seconds
        self.mux.absent(seconds)

    def turn_out(self, why: str) -> None:
        self._broken(Broken(why))
        self.mux.close()

    def _broken(self, error: Broken) -> None:
        if self.gone:
            return
        for agent in self.agents.values():
            agent.failure = f"the connection to {self.peer}, which attached it: {error}"
            agent.lives_on, agent.died = error.abrupt, False
        self._let_go()
        if not self.proven:
            self.log("WARNING", f"attach: a connection from {self.peer} was closed: {error}")
            return
        if self.context or str(error) != "it was closed":
            self.log("INFO" if str(error) == "it was closed" else "WARNING", f"attach: {self.context or self.peer}: {error}")
        self._to_host(lambda host: host.gone(self, str(error)))

    def _let_go(self) -> None:
        self.gone = True
        for agent in self.agents.values():
            agent.over.set()
        self.agents.clear()
        for session in self.sessions.values():
            session.end(GONE)
        self.sessions.clear()
