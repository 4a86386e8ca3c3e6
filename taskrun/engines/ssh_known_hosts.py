"""Whether a host is the one that is known: the known_hosts files, as OpenSSH reads them."""

from __future__ import annotations

import fnmatch
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskrun.engines import advice
from taskrun.engines.ssh_settings import Settings

if TYPE_CHECKING:
    import paramiko


class CannotConnect(Exception):
    """The host cannot be reached. `permanent`: trying again would fail in the same way."""

    def __init__(self, why: str, *, permanent: bool) -> None:
        super().__init__(why)
        self.permanent = permanent


class Known:
    """What the known_hosts files say of one host."""

    def __init__(self) -> None:
        self.keys: list[tuple[Any, str]] = []  # with FILE:LINE
        self.revoked: list[Any] = []
        self.authority = ""  # where a certificate authority is trusted for it


def _lookup_name(settings: Settings) -> str:
    name = settings.host_key_alias or settings.hostname
    return name if settings.port == 22 or settings.host_key_alias else f"[{name}]:{settings.port}"


def known_hosts(settings: Settings) -> Known:
    from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

    name = _lookup_name(settings)
    known = Known()
    for path in settings.known_hosts:
        try:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
        except OSError:
            continue
        for number, line in enumerate(lines, 1):
            marker, text = line.split(None, 1) if line.startswith("@") and " " in line else ("", line)
            if not text.strip() or text.startswith("#"):
                continue
            try:
                entry = HostKeyEntry.from_line(text, number)
            except InvalidHostKey:
                continue
            if entry is None or not _names(entry.hostnames, name):
                continue
            if marker == "@revoked":
                known.revoked.append(entry.key)
            elif marker == "@cert-authority":
                known.authority = f"{path}:{number}"
            else:
                known.keys.append((entry.key, f"{path}:{number}"))
    return known


def _names(patterns: list[str], name: str) -> bool:
    """Whether a line of known_hosts is about this host: hashed names, patterns, `!` for what is not meant."""
    from paramiko.hostkeys import HostKeys

    found = False
    for pattern in patterns:
        if pattern.startswith("|1|"):
            found = found or HostKeys.hash_host(name, pattern) == pattern
        elif pattern.startswith("!"):
            if fnmatch.fnmatchcase(name.lower(), pattern[1:].lower()):
                return False
        else:
            literal = pattern.startswith("[")  # [host]:port
            found = found or (pattern.lower() == name.lower() if literal else fnmatch.fnmatchcase(name.lower(), pattern.lower()))
    return found


def prefer_known_types(transport: paramiko.Transport, known: Known) -> None:
    """Ask the server for a key of a type that we know, as OpenSSH does."""
    types = {key.get_name() for key, _ in known.keys}
    if "ssh-rsa" in types:
        types |= {"rsa-sha2-512", "rsa-sha2-256"}
    options = transport.get_security_options()
    offered = list(options.key_types)
    options.key_types = tuple([each for each in offered if each in types] + [each for each in offered if each not in types])


def check_host_key(address: str, settings: Settings, known: Known, key: paramiko.PKey, note: Callable[[str], None], port: int = 0) -> None:
    """Raises CannotConnect unless the host is the one that is known. `address`, `port`: as they were given."""
    host = address.rpartition("@")[2]
    login = advice.login(address, "", port=port)
    if key in known.revoked:
        raise CannotConnect(f"its host key {key.fingerprint} is marked @revoked", permanent=True)
    if any(key == each for each, _ in known.keys):
        return
    same_type = [where for each, where in known.keys if each.get_name() == key.get_name()]
    if settings.strict == "no":
        what = f"not the one of {same_type[0]}" if same_type else "not known"
        note(f"{host}: its host key {key.fingerprint} is {what}; StrictHostKeyChecking no takes it")
        return
    if same_type or (known.keys and settings.strict != "accept-new"):
        where = (same_type or [known.keys[0][1]])[0]
        raise CannotConnect(
            f"its host key has changed: {key.fingerprint} is not the one of {where}; if that is meant: "
            f"ssh-keygen -f {shlex.quote(where.rpartition(':')[0])} -R {shlex.quote(_lookup_name(settings))}, then {login} once",
            permanent=True,
        )
    if known.authority:
        raise CannotConnect(f"it is to show a certificate ({known.authority}), which only OpenSSH checks: use --ssh ssh", permanent=True)
    if settings.strict == "accept-new" and settings.known_hosts:
        path = Path(settings.known_hosts[0])
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{_lookup_name(settings)} {key.get_name()} {key.get_base64()}\n")
        except OSError as error:
            note(f"{host}: its new host key could not be written to {path}: {os.strerror(error.errno or 0)}")
        return
    raise CannotConnect(f"its host key is not known ({key.get_name()} {key.fingerprint}): {login} once, and compare it", permanent=True)
