"""~/.ssh/config as `ssh -G` tells it, and what is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from taskrun.engines.ssh_connection import host_and_port
from taskrun.engines.ssh_settings import Settings, from_keywords, parse_keywords

PLAIN = {"hostname": ["h"], "port": ["22"], "user": ["ann"], "stricthostkeychecking": ["ask"], "proxyjump": ["none"], "sendenv": ["LANG"]}


def settings(**more: str) -> Settings:
    return from_keywords(PLAIN | {name: [value] for name, value in more.items()}, PLAIN, "h")


def test_keywords() -> None:
    assert parse_keywords("Host h\nidentityfile ~/.ssh/a b\nidentityfile ~/c\nport 22\n") == {
        "host": ["h"], "identityfile": ["~/.ssh/a b", "~/c"], "port": ["22"],
    }  # fmt: skip


def test_defaults() -> None:
    found = settings()
    assert (found.hostname, found.port, found.user, found.strict) == ("h", 22, "ann", "ask")
    assert (found.proxy_jump, found.proxy_command, found.host_key_alias) == ("", "", "")
    assert (found.agent, found.keys, found.identities_only) == (True, True, False)
    assert (found.connect_seconds, found.unhonoured) == (20.0, ())


@pytest.mark.parametrize(
    ("said", "strict"), [("yes", "yes"), ("true", "yes"), ("no", "no"), ("off", "no"), ("false", "no"), ("accept-new", "accept-new")]
)
def test_strictness(said: str, strict: str) -> None:
    assert settings(stricthostkeychecking=said).strict == strict


def test_identities_that_are_there(tmp_path: Path) -> None:
    """A file that is not there is not tried; a public half may name a key of an ssh-agent."""
    (tmp_path / "a key").touch()
    (tmp_path / "b.pub").touch()
    effective = PLAIN | {"identityfile": [str(tmp_path / name) for name in ("a key", "b", "c")]}
    assert from_keywords(effective, PLAIN, "h").identities == (str(tmp_path / "a key"), str(tmp_path / "b"))


def test_lists_of_known_hosts(tmp_path: Path) -> None:
    found = settings(userknownhostsfile=f"{tmp_path}/a {tmp_path}/b", globalknownhostsfile="none")
    assert found.known_hosts == (f"{tmp_path}/a", f"{tmp_path}/b")


def test_what_cannot_be_honoured_is_named() -> None:
    assert settings(remotecommand="x", localforward="1 h:2", compression="yes").unhonoured == ("localforward", "remotecommand")
    assert settings(sendenv="LC_*").unhonoured == (), "a distribution's own"
    assert settings(sendenv="SECRET").unhonoured == ("sendenv",)
    assert settings(identityagent="/elsewhere").unhonoured == ("identityagent",)
    assert settings(identityagent="none").agent is False


def test_others() -> None:
    assert settings(connecttimeout="3").connect_seconds == 3.0
    assert settings(connecttimeout="none").connect_seconds == 20.0
    assert settings(pubkeyauthentication="no").keys is False
    assert settings(hostkeyalias="one").host_key_alias == "one"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("h", ("h", 0)), ("me@h:22", ("me@h", 22)), ("h:", ("h:", 0)), ("::1", ("::1", 0)), ("me@fe80::1:2", ("me@fe80::1:2", 0)),
        ("me@[::1]:22", ("me@::1", 22)), ("ssh://h:2", ("h", 2)),
    ],
)  # fmt: skip
def test_hosts_with_a_port(text: str, wanted: tuple[str, int]) -> None:
    """An address of IPv6 without brackets has none."""
    assert host_and_port(text) == wanted
