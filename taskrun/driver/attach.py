"""The door of a run: the one thing that listens, for contexts that attach and for who wants to look. In a thread of its own.

It opens a second after the run has begun, so that short runs pay nothing for it, at once where --use-address says where. It is open as long
as PREFIX_attach.json is there.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import shlex
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from taskrun import threads
from taskrun.driver.absence import Absence
from taskrun.driver.mailbox import Mailbox
from taskrun.errors import Refused
from taskrun.status import names
from taskrun.status.durable import replace_whole

if TYPE_CHECKING:
    from taskrun.driver.guest import Guest, Host
    from taskrun.engines.attach_frames import Role
    from taskrun.options import Options

OPENS_AFTER = 1.0  # seconds after the run has begun
STRANGERS_MOST = 16  # connections at a time that have proved nothing yet
GUESTS_MOST = 256  # connections in all
LINES_MOST = 30  # of the log in a minute about connections
LOOK = 0.5  # seconds between two looks at who is silent
CLOSE_SECONDS = 10.0


class Address(NamedTuple):
    """Where to listen. `host` '': on all interfaces."""

    host: str
    port: int
    given: bool


def parse_address(text: str | None) -> Address | None:
    """What --use-address says: HOST:PORT, HOST, :PORT; `off` for None. Raises Refused."""
    if text is None:
        return Address(socket.gethostname(), 0, given=False)
    if text == "off":
        return None
    host, colon, port = text.rpartition(":")
    if not colon or (text.count(":") > 1 and not host.startswith("[")):  # ::1 is an address without a port
        host, port = text, "0"
    if not port.isdecimal() or not port.isascii() or len(port) > 5 or int(port) > 65535:
        raise Refused(f"--use-address {text}: `{port}` is no port; write HOST:PORT, HOST, or :PORT for all interfaces")
    return Address("" if host == "*" else host.removeprefix("[").removesuffix("]"), int(port), given=True)


def listen(address: Address) -> tuple[socket.socket, list[tuple[str, int]]]:
    """(the socket, addresses to connect to). Raises Refused when that cannot be had."""
    host = address.host
    try:
        found = socket.getaddrinfo(host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        if address.given:
            raise Refused(f"--use-address {host}: there is no such address here ({error})") from None
        found = []
    problem = ""
    for family, kind, _, _, place in found:
        if not host and family != socket.AF_INET:
            continue
        try:
            sock = _bound(family, kind, place)
        except OSError as error:
            problem = os.strerror(error.errno or 0)
            continue
        bound = sock.getsockname()
        return sock, [(bound[0], bound[1])] if host else _own_addresses(bound[1])
    if address.given:
        raise Refused(f"--use-address: {host or '*'}:{address.port} cannot be listened on: {problem}")
    try:
        sock = _bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))  # a name that leads nowhere: for this machine alone
    except OSError as error:
        raise Refused(f"nothing can be listened on: {os.strerror(error.errno or 0)}") from None
    return sock, [("127.0.0.1", sock.getsockname()[1])]


def is_near(addresses: list[tuple[str, int]]) -> bool:
    """Only the machine that listens there can reach them."""
    return all(host.startswith("127.") or host == "::1" for host, _ in addresses)


def _bound(family: int, kind: int, place: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
        sock.listen(64)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _own_addresses(port: int) -> list[tuple[str, int]]:
    name = socket.gethostname()
    hosts = [name]
    with contextlib.suppress(OSError):
        hosts += [place[0] for *_, place in socket.getaddrinfo(name, port, socket.AF_INET, socket.SOCK_STREAM)]  # type: ignore[misc]
    return [(host, port) for host in dict.fromkeys([*hosts, "127.0.0.1"])]


class Door:
    """Listens for guests."""

    def __init__(
        self,
        prefix: Path,
        run_id: str,
        options: Options,
        host: Host,
        loop_selector: selectors.BaseSelector,
        log: Callable[[str, str], None],
        *,
        earlier: bool = False,
    ) -> None:
        """Raises Refused when --use-address names what cannot be listened on; not if it is that of an `earlier` run: then any will do."""
        self.path = names.with_suffix(prefix, names.ATTACH)
        self.script = names.with_suffix(prefix, names.DBUTIL)
        self.prefix = prefix
        self.run_id = run_id
        self.options = options
        self.host = host
        self._log = log
        self._lines: deque[float] = deque()
        self._unsaid = 0
        self.address = parse_address(options.use_address)
        self._listener: tuple[socket.socket, list[tuple[str, int]]] | None = None
        self.news = ""  # about an earlier run's address, for the person
        if self.address is not None and self.address.given:
            self._listener = self._listen_again(self.address) if earlier else listen(self.address)
        self.began = time.monotonic()
        self.guests: set[Guest] = set()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()  # of files and `closing`
        self._selector = selectors.DefaultSelector()
        self._mail = Mailbox(self._selector)
        self._to_loop = Mailbox(loop_selector)

    def _listen_again(self, address: Address) -> tuple[socket.socket, list[tuple[str, int]]]:
        """Listen at the address of the earlier run if possible."""
        why = ""
        try:
            found = listen(address)
        except Refused as error:
            why = f"{error}; "
            self.address = address = parse_address(None) or address
            found = listen(address)
        if why or not address.port:
            host, port = found[1][0]
            self.news = f"{why}this run listens on {host}:{port}"
        return found

    # for the driver's loop

    def tick(self) -> None:
        """Every second: open, when it is time to."""
        if self._thread is None and self.address is not None and (self.address.given or time.monotonic() - self.began >= OPENS_AFTER):
            try:
                self._start(self._open_and_serve)
            except Refused as error:
                self.address = None
                self.log("WARNING", f"nobody can attach to this run: {error}")

    def open_now(self) -> None:
        """Raises Refused when it cannot."""
        if self.address is None:
            raise Refused("--startup-only waits for contexts that attach, and --use-address off lets none: leave one of them out")
        self._open()
        self._start(self._serve)

    @property
    def reach(self) -> str:
        """Who can connect, where that is not everybody: words for the person."""
        addresses = self._listener[1] if self._listener is not None else []
        return " (on this machine only: --use-address HOST:PORT for others)" if is_near(addresses) else ""

    def _start(self, work: Callable[[], None]) -> None:
        self._thread = threads.start(work, "the door for who attaches")

    def close(self) -> None:
        """The run is over."""
        with self._lock:
            self._closing.set()
        thread = self._thread
        self._mail.post(lambda: None)
        if thread is not None:
            thread.join(CLOSE_SECONDS)  # also one that is still loading its libraries: Python must not end under them
        self._to_loop.close()
        for path in (self.path, self.script):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        if self._listener is not None:
            self._listener[0].close()

    def after(self, call: Callable[[], None]) -> None:
        """Have it called in this door's thread."""
        self._mail.post(call)

    # in the thread

    def _open_and_serve(self) -> None:
        try:
            self._open()
        except Refused as error:
            self.log("WARNING", f"nobody can attach to this run: {error}")
            return
        except Exception as error:  # noqa: BLE001 - a library that is not as it should be: the run goes on all the same
            self.log("ERROR", f"nobody can attach to this run: {type(error).__name__}: {error}")
            return
        if not self._closing.is_set():
            self._serve()

    def _open(self) -> None:
        """Raises Refused."""
        from taskrun.driver.guest import Known
        from taskrun.engines.invitation import Invitation
        from taskrun.engines.tls import make_identity

        assert self.address is not None
        options = self.options
        if self._listener is None:
            self._listener = listen(self.address)
        addresses = self._listener[1]
        identity = make_identity()
        keys: dict[Role, str] = {"join": secrets.token_urlsafe(32), "control": secrets.token_urlsafe(32)}
        self._identity = identity
        self._known = Known(
            self.run_id,
            identity.fingerprint,
            keys,
            options.cpus_per_task,
            options.tasks_per_node,
            [name for item in options.env_resource for name in item.split(",") if name],
            options.lost_after,
        )
        path = self.script
        try:
            with self._lock:
                if self._closing.is_set():
                    return
                self._write_script()
                path = self.path  # last: once it is there, others attach
                Invitation(self.run_id, addresses, identity.fingerprint, keys["join"], keys["control"]).write(path)
        except OSError as error:
            raise Refused(f"{path} cannot be written: {os.strerror(error.errno or 0)}") from None
        self.log("INFO", f"listens on {', '.join(f'{host}:{port}' for host, port in addresses)} for `taskrun attach {self.prefix}`")

    def _write_script(self) -> None:
        """What disBatch calls PREFIX_dbUtil.sh."""
        command = f"{shlex.quote(sys.executable)} -m taskrun"
        prefix = shlex.quote(str(self.prefix))
        text = f'#!/bin/sh\n[ "$1" = --mon ] && exec {command} monitor {prefix}\nexec {command} attach {prefix} "$@"\n'
        replace_whole(self.script, os.fsencode(text), 0o700)

    def _serve(self) -> None:
        assert self._listener is not None
        sock = self._listener[0]
        selector = self._selector
        selector.register(sock, selectors.EVENT_READ, lambda _: self._accept(sock))
        look_at = 0.0
        absence = Absence()
        try:
            while not self._closing.is_set():
                absence.waits(time.monotonic() + LOOK)
                for key, events in selector.select(LOOK):
                    if selector.get_map().get(key.fd) is key:
                        key.data(events)
                now = time.monotonic()
                missed = absence.look(now)
                if missed is not None:  # what waits in the sockets is read before anybody counts as silent
                    look_at = now + LOOK
                    for guest in self.guests:
                        guest.absent(missed.seconds)
                if now >= look_at:
                    look_at = now + LOOK
                    for guest in list(self.guests):
                        guest.look_after(now)
                        if guest.gone:
                            self.guests.discard(guest)
            self._mail.run()
        except Exception as error:  # noqa: BLE001 - whatever it is: the run goes on, only nobody can attach any more
            self.log("ERROR", f"the door is closed after a mistake in it: {type(error).__name__}: {error}")
        finally:
            from taskrun.engines.tls import Broken

            for guest in self.guests:
                if not guest.gone:
                    guest.mux.on_broken(Broken("the door was closed"))
                guest.mux.close()
            self._mail.close()
            sock.close()
            selector.close()

    def _accept(self, listener: socket.socket) -> None:
        from taskrun.driver.guest import Guest
        from taskrun.engines.tls import SecureStream

        try:
            sock, place = listener.accept()
        except OSError as error:
            if not isinstance(error, BlockingIOError):
                self.log("WARNING", f"attach: no connection can be taken: {os.strerror(error.errno or 0)}")
                self._closing.wait(0.1)  # out of descriptors, most likely
            return
        peer = str(place[0])
        self.guests = {guest for guest in self.guests if not guest.gone}
        strangers = [guest for guest in self.guests if not guest.proven]
        if len(strangers) >= STRANGERS_MOST:  # who knows the secret says so at once: those that are silent do not keep him out
            min(strangers, key=lambda guest: guest.deadline).turn_out("there are too many that have proved nothing")
        elif len(self.guests) >= GUESTS_MOST:
            sock.close()
            self.log("WARNING", f"attach: a connection from {peer} was closed: there are too many")
            return
        stream = SecureStream(sock, self._identity.context, server_side=True)
        guest = Guest(
            stream, peer, peer == str(sock.getsockname()[0]), self._selector, self._known, self._mail.post, self._to_host, self.log
        )
        self.guests.add(guest)

    def _to_host(self, call: Callable[[Host], None]) -> None:
        self._to_loop.post(lambda: call(self.host))

    def log(self, level: str, text: str) -> None:
        """A line about each connection, but no flood of them."""
        now = time.monotonic()
        while self._lines and self._lines[0] < now - 60.0:
            self._lines.popleft()
        if len(self._lines) >= LINES_MOST:
            self._unsaid += 1
            return
        self._lines.append(now)
        more, self._unsaid = (f" ({self._unsaid} lines like this one were left out)" if self._unsaid else ""), 0
        self._log(level, text + more)
