"""How a host is to be reached: ~/.ssh/config as the user's own ssh reads it (`ssh -G`), or paramiko's reading of it where there is no ssh.

Settings that only OpenSSH can honour are named, so that nobody believes in them: `--ssh ssh` has them all.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from taskrun.errors import Refused

GLOBAL_CONFIG = "/etc/ssh/ssh_config"
CONNECT_SECONDS = 20.0  # unless ConnectTimeout says otherwise

_HONOURED = frozenset(
    ("connecttimeout", "globalknownhostsfile", "host", "hostkeyalias", "hostname", "identitiesonly", "identityagent",
     "identityfile", "port", "proxycommand", "proxyjump", "pubkeyauthentication", "stricthostkeychecking", "user", "userknownhostsfile")
)  # fmt: skip
#: Settings that change nothing for one command without a terminal, or that are about asking and saying.
_HARMLESS = frozenset(
    ("addkeystoagent", "batchmode", "canonicaldomains", "canonicalizefallbacklocal", "canonicalizehostname", "canonicalizemaxdots",
     "canonicalizepermittedcnames", "checkhostip", "clearallforwardings", "compression", "connectionattempts", "controlmaster",
     "controlpath", "controlpersist", "enableescapecommandline", "escapechar", "exitonforwardfailure", "fingerprinthash",
     "forkafterauthentication", "gatewayports", "gssapiauthentication", "gssapidelegatecredentials", "gssapikeyexchange",
     "hashknownhosts", "ipqos", "kbdinteractiveauthentication", "loglevel", "logverbose", "numberofpasswordprompts",
     "passwordauthentication", "permitlocalcommand", "preferredauthentications", "proxyusefdpass", "requesttty", "serveralivecountmax",
     "serveraliveinterval", "stdinnull", "streamlocalbindunlink", "syslogfacility", "tcpkeepalive", "updatehostkeys",
     "verifyhostkeydns", "visualhostkey", "xauthlocation", "forwardx11", "forwardx11timeout", "forwardx11trusted", "tunnel",
     "tunneldevice", "nohostauthenticationforlocalhost", "rekeylimit", "requiredrsasize", "challengeresponseauthentication",
     "obscurekeystroketiming", "channeltimeout", "versionaddendum")
)  # fmt: skip


class Settings(NamedTuple):
    """The effective settings of one host."""

    name: str  # as it was given
    hostname: str
    port: int
    user: str
    identities: tuple[str, ...]  # files of keys, those that exist or whose public half does: an ssh-agent may have the other
    identities_only: bool
    known_hosts: tuple[str, ...]
    strict: str  # yes, ask, accept-new, no
    host_key_alias: str
    proxy_jump: str  # '' for none
    proxy_command: str
    agent: bool  # keys of an ssh-agent may be used
    keys: bool  # public keys may be used at all
    connect_seconds: float
    unhonoured: tuple[str, ...]  # settings of the user's that are not honoured
    missing: tuple[str, ...] = ()  # files of keys that the user names, and that are not there


def settings_of(address: str, environ: dict[str, str]) -> Settings:
    """The settings of `HOST` or `USER@HOST`. Raises Refused when the user's configuration is wrong."""
    user, _, host = address.rpartition("@")
    program = shutil.which("ssh", path=environ.get("PATH"))
    if program is None:
        return _without_ssh(user, host)
    base = ["-G", *(["-l", user] if user else []), "--", host]
    effective = _ask(program, base)
    plain = _ask(program, ["-F", os.devnull, *base])
    return from_keywords(effective, plain, host)


def _ask(program: str, arguments: list[str]) -> dict[str, list[str]]:
    # not ended by a Ctrl-C that lets the run end what it has
    done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, check=False, start_new_session=True)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Refused(f"ssh refuses its configuration: {said[0] if said else f'exit {done.returncode}'}")
    return parse_keywords(done.stdout.decode("utf-8", "surrogateescape"))


def parse_keywords(text: str) -> dict[str, list[str]]:
    """What `ssh -G` prints: a keyword and its value a line, some keywords several times."""
    found: dict[str, list[str]] = {}
    for line in text.split("\n"):
        keyword, _, value = line.partition(" ")
        if keyword:
            found.setdefault(keyword.lower(), []).append(value)
    return found


def from_keywords(effective: dict[str, list[str]], plain: dict[str, list[str]], name: str) -> Settings:
    """`name`: the host as it was given. `plain`: the same without any configuration, so that what differs is what somebody has set."""

    def last(keyword: str, default: str = "") -> str:
        return effective.get(keyword, [default])[-1]

    def words(keyword: str) -> list[str]:
        return [word for value in effective.get(keyword, []) for word in value.split()]

    unhonoured = sorted(
        keyword
        for keyword, values in effective.items()
        if keyword not in _HONOURED and keyword not in _HARMLESS and values != plain.get(keyword) and not _is_locale(keyword, values)
    )
    agent = last("identityagent", "SSH_AUTH_SOCK")
    if agent not in ("none", "SSH_AUTH_SOCK", "$SSH_AUTH_SOCK"):
        unhonoured.append("identityagent")
    identities = [
        _home(_expanded(path, name, last("hostname"), last("port", "22"), last("user"))) for path in effective.get("identityfile", [])
    ]
    there = [path for path in identities if Path(path).exists() or Path(f"{path}.pub").exists()]
    own = bool(plain) and effective.get("identityfile") != plain.get("identityfile")
    timeout = last("connecttimeout", "none")
    proxy = last("proxycommand", "none")
    jump = last("proxyjump", "none")
    return Settings(
        name=name,
        hostname=last("hostname"),
        port=int(last("port", "22")),
        user=last("user"),
        identities=tuple(there),
        identities_only=last("identitiesonly") == "yes",
        known_hosts=tuple(_home(path) for path in words("userknownhostsfile") + words("globalknownhostsfile") if path != "none"),
        strict={"true": "yes", "false": "no", "off": "no"}.get(last("stricthostkeychecking", "ask"), last("stricthostkeychecking", "ask")),
        host_key_alias=last("hostkeyalias", "none") if last("hostkeyalias", "none") != "none" else "",
        proxy_jump="" if jump == "none" else jump,
        proxy_command="" if proxy == "none" else proxy,
        agent=agent != "none",
        keys=last("pubkeyauthentication", "yes") not in ("no", "false"),
        connect_seconds=float(timeout) if timeout.isdigit() and int(timeout) else CONNECT_SECONDS,
        unhonoured=tuple(unhonoured),
        missing=tuple(path for path in identities if own and path not in there),
    )


def _is_locale(keyword: str, values: list[str]) -> bool:
    """Debian's own ssh_config sends the locale: nobody means anything by it."""
    return keyword == "sendenv" and all(value in ("LANG", "LC_*", "COLORTERM", "NO_COLOR") for value in values)


def _expanded(path: str, name: str, hostname: str, port: str, user: str) -> str:
    """What ssh puts for tokens and variables in the name of a key's file: `ssh -G` shows them as they were written."""
    here = socket.gethostname()
    tokens = {
        "%": "%", "d": str(Path.home()), "h": hostname, "i": str(os.getuid()), "k": name, "L": here.partition(".")[0], "l": here,
        "n": name, "p": port, "r": user, "u": getpass.getuser(),
    }  # fmt: skip
    path = re.sub("%(.)", lambda found: tokens.get(found[1], found[0]), path)
    return re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], found[0]), path)


def _home(path: str) -> str:
    return os.path.expanduser(path.strip('"'))  # noqa: PTH111 - a name that is not UTF-8 stays as it is


def _without_ssh(user: str, host: str) -> Settings:
    """paramiko's own reading: Match, Include and tokens as far as it knows them."""
    import paramiko

    config = paramiko.SSHConfig()
    for path in (Path.home() / ".ssh" / "config", Path(GLOBAL_CONFIG)):
        if path.exists():
            try:
                with path.open(encoding="utf-8") as file:
                    config.parse(file)
            except (OSError, UnicodeDecodeError, paramiko.ConfigParseError) as error:
                raise Refused(f"{path}: {error}") from None
    said: dict[str, Any] = dict(config.lookup(host))
    found: dict[str, list[str]] = {keyword: values if isinstance(values, list) else [values] for keyword, values in said.items()}
    found.setdefault("identityfile", [f"~/.ssh/id_{kind}" for kind in ("ed25519", "ecdsa", "rsa")])
    found.setdefault("userknownhostsfile", ["~/.ssh/known_hosts"])
    found.setdefault("globalknownhostsfile", ["/etc/ssh/ssh_known_hosts"])
    found.setdefault("user", [user or os.environ.get("USER") or os.environ.get("LOGNAME") or ""])
    if user:
        found["user"] = [user]
    return from_keywords(found, {}, host)
