"""A connection over SSH by paramiko: TCP or through jump hosts, the host key checked, logged in with keys. Asks nobody anything."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun.engines import advice
from taskrun.engines.ssh_known_hosts import CannotConnect, check_host_key, known_hosts, prefer_known_types
from taskrun.engines.ssh_settings import Settings, settings_of
from taskrun.errors import Refused

if TYPE_CHECKING:
    import paramiko

_SILENCE = logging.NullHandler()
LOGIN_SECONDS = 60.0  # for the banner, and for the login
JUMPS_MOST = 8


def open_transport(
    address: str, note: Callable[[str], None], opened: list[paramiko.Transport], port: int = 0, via: str = "", jumps: int = 0
) -> paramiko.Transport:
    """A connection that is logged in. Every transport made on the way is added to `opened`. Raises CannotConnect, Refused.

    `port` and `via` (jump hosts, as in ProxyJump) are what a ProxyJump line says of a jump host; `jumps`: how many lead to it.
    """
    import paramiko

    settings = settings_of(address, dict(os.environ))
    if port:
        settings = settings._replace(port=port)
    if via:
        settings = settings._replace(proxy_jump=via, proxy_command="")
    host = address.rpartition("@")[2]
    if settings.unhonoured:
        note(f"{host}: settings of ssh that are not honoured: {', '.join(settings.unhonoured)} (--ssh ssh honours them all)")
    logging.getLogger("paramiko").propagate = False  # what matters of it is said by us
    logging.getLogger("paramiko").addHandler(_SILENCE)
    try:
        sock = _socket(settings, note, opened, jumps)
        transport = paramiko.Transport(sock)
        opened.append(transport)
        transport.daemon = True
        _prefer_fast_ciphers(transport)
        transport.banner_timeout = transport.auth_timeout = LOGIN_SECONDS
        known = known_hosts(settings)
        prefer_known_types(transport, known)
        transport.start_client(timeout=LOGIN_SECONDS)
        check_host_key(address, settings, known, transport.get_remote_server_key(), note, port)
        _log_in(address, settings, transport, port)
    except (OSError, EOFError) as error:
        raise CannotConnect(_socket_words(error, settings, address), permanent=isinstance(error, socket.gaierror)) from error
    except paramiko.SSHException as error:
        reset = settings.proxy_command and "banner[Errno" in str(error)  # it ended before it had taken what we said first
        raise CannotConnect(_socket_words(error, settings, address) if reset else f"ssh failed: {error}", permanent=False) from error
    return transport


def _socket_words(error: Exception, settings: Settings, address: str) -> str:
    where = settings.hostname if settings.port == 22 else f"{settings.hostname} port {settings.port}"
    if isinstance(error, socket.gaierror):
        return f"there is no host of this name ({error.strerror}: {settings.hostname})"
    if isinstance(error, TimeoutError):
        return f"{where} did not answer within {settings.connect_seconds:.0f} s"
    if settings.proxy_command:
        return f"its ProxyCommand has ended without a connection: `{advice.login(address)}` says why"
    return f"{where}: {error.strerror if isinstance(error, OSError) and error.strerror else 'the connection was closed'}"


def _socket(settings: Settings, note: Callable[[str], None], opened: list[paramiko.Transport], jumps: int) -> Any:
    """A TCP connection, or what stands for one: a channel through a jump host, a program."""
    if settings.proxy_jump:
        if jumps >= JUMPS_MOST:
            raise Refused(f"ProxyJump {settings.proxy_jump}: more than {JUMPS_MOST} jump hosts in a row; does one lead back to itself?")
        # the last one is the nearest; the others are its own way
        before, _, jump = _expanded(settings, settings.proxy_jump).rpartition(",")
        address, port = host_and_port(jump)
        try:
            through = open_transport(address, note, opened, port, before, jumps + 1)
        except CannotConnect as error:
            raise CannotConnect(f"its jump host {address}: {error}", permanent=error.permanent) from error
        return through.open_channel("direct-tcpip", (settings.hostname, settings.port), ("127.0.0.1", 0), timeout=settings.connect_seconds)
    if settings.proxy_command:
        return _Proxied.start(_expanded(settings, settings.proxy_command))
    sock = socket.create_connection((settings.hostname, settings.port), settings.connect_seconds)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # frames are whole: nothing is gained by waiting for more
    return sock


def _prefer_fast_ciphers(transport: paramiko.Transport) -> None:
    """AES in hardware, with its authentication in the same pass; what else there is stays to be agreed on."""
    options = transport.get_security_options()
    options.ciphers = tuple(sorted(options.ciphers, key=lambda name: "gcm" not in name))


class _Proxied(socket.socket):
    """A connection that a ProxyCommand makes; it ends with it."""

    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, command: str) -> _Proxied:
        ours, theirs = socket.socketpair()
        with theirs:
            # the user's own words, which ssh gives to a shell, too
            process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        proxied = cls(fileno=ours.detach())
        proxied.process = process
        return proxied

    def close(self) -> None:
        super().close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def _expanded(settings: Settings, text: str) -> str:
    """A ProxyCommand or ProxyJump with its tokens replaced."""
    tokens = {"%h": settings.hostname, "%p": str(settings.port), "%r": settings.user, "%n": settings.name, "%%": "%"}
    return re.sub("%[hprn%]", lambda found: tokens[found[0]], text)


def host_and_port(text: str) -> tuple[str, int]:
    """(address, port or 0) of one host in a ProxyJump line, or of a location: `[user@]host[:port]` or `ssh://…`."""
    text = text.strip().removeprefix("ssh://")
    if text.rpartition("@")[2].startswith("["):  # [::1]:22
        name, _, port = text.partition("]")
        return name.replace("[", ""), int(port[1:]) if port[1:].isdigit() else 0
    name, _, port = text.rpartition(":")
    return (name, int(port)) if port.isdigit() and name and ":" not in name else (text, 0)


def _log_in(address: str, settings: Settings, transport: paramiko.Transport, port: int) -> None:
    """Public keys: those of the agent, then the files. Raises CannotConnect with what could be done."""
    import paramiko

    problems: list[str] = []
    tried = 0
    if not settings.keys:
        problems.append("PubkeyAuthentication is off, and without --ssh ssh only keys are shown")
    else:
        problems += [f"its IdentityFile {path} is not there" for path in settings.missing]
        for key in _keys(settings, problems):
            tried += 1
            try:
                if not transport.auth_publickey(settings.user, key):
                    return
                raise CannotConnect("it wants more than a key to log in, which only `--ssh ssh` can do", permanent=True)
            except paramiko.BadAuthenticationType:
                break
            except paramiko.AuthenticationException:
                if not transport.is_active():
                    problems.append("it takes no more tries: too many keys, name the right one (IdentityFile, IdentitiesOnly yes)")
                    break
    remedy = "; ".join(problems) or (
        f"check `{advice.login(address, ssh='ssh -o BatchMode=yes', port=port)}`"
        if tried
        else f"there is no key to show: ssh-keygen, then {advice.login(address, '', ssh='ssh-copy-id', port=port)}"
    )
    count = "1 key" if tried == 1 else f"{tried} keys"
    raise CannotConnect(f"the login of {settings.user} was refused ({count} tried); {remedy}", permanent=True)


def _keys(settings: Settings, problems: list[str]) -> Any:
    """Keys to try, in OpenSSH's order: those of the agent that files name, files, the agent's others."""
    import paramiko

    held = list(paramiko.Agent().get_keys()) if settings.agent else []
    named = {blob for path in settings.identities if (blob := _public_blob(path)) is not None}
    yield from (key for key in held if key.asbytes() in named)
    if not settings.identities_only:
        yield from (key for key in held if key.asbytes() not in named)
    in_agent = {key.asbytes() for key in held}
    for path in settings.identities:
        if _public_blob(path) in in_agent or not Path(path).exists():
            continue
        try:
            key = paramiko.PKey.from_path(path)
        except (paramiko.PasswordRequiredException, TypeError):
            problems.append(f"{path} needs its passphrase: ssh-add {path}")
            continue
        except Exception as error:  # noqa: BLE001 - a key of a kind that this paramiko does not know
            problems.append(f"{path} cannot be read ({error})")
            continue
        certificate = Path(f"{path}-cert.pub")
        if certificate.exists():
            with contextlib.suppress(Exception):
                key.load_certificate(str(certificate))
        yield key


def _public_blob(path: str) -> bytes | None:
    """The public half beside a key's file."""
    import base64

    try:
        fields = Path(f"{path}.pub").read_text(encoding="utf-8").split()
        return base64.b64decode(fields[1])
    except (OSError, IndexError, ValueError):
        return None
