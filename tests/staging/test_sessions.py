"""Sessions with a host that grants few on one connection: as many connections as that takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import paramiko
import pytest
from sshd import Sshd

from taskrun.driver.member import Member
from taskrun.driver.places import _Way
from taskrun.engines import ssh_sessions
from taskrun.engines.ssh_known_hosts import CannotConnect
from taskrun.engines.ssh_sessions import Full, SftpHost, open_sftp


@pytest.fixture(scope="module")
def stingy() -> Iterator[Sshd]:
    made = Sshd("MaxSessions 1\n")
    yield made
    made.close()


@pytest.fixture
def logins(stingy: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[paramiko.Transport]]:
    """One after the other."""
    made: list[paramiko.Transport] = []

    def open_transport(address: str, note: Callable[[str], None], opened: list[paramiko.Transport], port: int = 0) -> paramiko.Transport:
        transport = stingy.connect().get_transport()
        assert transport is not None
        opened.append(transport)
        made.append(transport)
        return transport

    monkeypatch.setattr(ssh_sessions, "open_transport", open_transport)
    yield made
    for transport in made:
        transport.close()


def test_one_connection_more_for_what_one_does_not_take(logins: list[paramiko.Transport]) -> None:
    host = SftpHost("me@host", print)
    together = threading.Barrier(5)

    def work(_: int) -> list[str]:
        together.wait(30)
        sftp = open_sftp(host.session("sftp", 30.0))
        found = sftp.listdir("/")
        together.wait(30)
        sftp.close()
        return cast(list[str], found)

    with ThreadPoolExecutor(5) as pool:
        assert len(list(pool.map(work, range(5)))) == 5
    assert len(logins) == 5
    for _ in range(3):  # those that are there are used again
        host.session("sftp", 30.0).close()
    assert len(logins) <= 6  # a host may take a moment to see that a session has ended


def test_an_agents_connection_that_is_full_is_not_all_there_is(
    logins: list[paramiko.Transport], stingy: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = stingy.connect().get_transport()
    assert transport is not None
    agent = transport.open_session()
    engine = SimpleNamespace(session=partial(ssh_sessions.session, transport), held=False, ended=lambda: False)
    member = cast(Member, SimpleNamespace(agent=engine, request=SimpleNamespace(reach="ssh")))
    open_sftp(_Way(member, SftpHost("host", print), 30.0).session("sftp")).close()
    assert len(logins) == 1

    def refused(*_: Any) -> None:
        raise CannotConnect("it wants a second factor", permanent=True)

    monkeypatch.setattr(ssh_sessions, "open_transport", refused)
    with pytest.raises(Full, match="MaxSessions"):  # which passes, when the others have ended
        _Way(member, SftpHost("host", print), 30.0).session("sftp")
    agent.close()
    transport.close()
