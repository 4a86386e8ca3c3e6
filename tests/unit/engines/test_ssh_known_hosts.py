"""Which lines of a known_hosts file are about a host, and what follows from them."""

from __future__ import annotations

from pathlib import Path

import paramiko
import pytest

from taskrun.engines.ssh_known_hosts import CannotConnect, check_host_key, known_hosts
from taskrun.engines.ssh_settings import Settings

KEY, OTHER = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
ELSE = paramiko.RSAKey.generate(1024)


def line(names: str, key: paramiko.PKey = KEY) -> str:
    return f"{names} {key.get_name()} {key.get_base64()}\n"


def settings(path: Path, strict: str = "yes", port: int = 22, alias: str = "") -> Settings:
    files = (str(path), str(path.parent / "missing"))
    return Settings("h", "h.example", port, "ann", (), False, files, strict, alias, "", "", True, True, 20.0, ())


@pytest.mark.parametrize(
    ("names", "port", "known"),
    [
        ("h.example", 22, True), ("H.Example", 22, True), ("other,h.example,1.2.3.4", 22, True), ("*.example", 22, True),
        ("*.example,!h.example", 22, False), ("?.example", 22, True), ("h", 22, False), ("[h.example]:2222", 2222, True),
        ("h.example", 2222, False), ("[h.example]:2222", 22, False), ("#h.example", 22, True),
        ("#[h.example]:2222", 2222, True), ("#i.example", 22, False),
    ],
)  # fmt: skip
def test_names(tmp_path: Path, names: str, port: int, known: bool) -> None:
    """`#` stands for a hash of what follows it."""
    path = tmp_path / "known"
    if names.startswith("#"):
        names = paramiko.HostKeys.hash_host(names[1:])
    path.write_text("# a comment\n\nnonsense\n" + line(names))
    found = known_hosts(settings(path, port=port))
    assert [where for _, where in found.keys] == ([f"{path}:4"] if known else [])


def test_an_alias(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text(line("one"))
    assert known_hosts(settings(path, port=2222, alias="one")).keys


def check(path: Path, key: paramiko.PKey, strict: str = "yes") -> list[str]:
    said: list[str] = []
    wanted = settings(path, strict)
    check_host_key("h", wanted, known_hosts(wanted), key, said.append)
    return said


def refusal(path: Path, key: paramiko.PKey, strict: str = "yes") -> str:
    with pytest.raises(CannotConnect) as caught:
        check(path, key, strict)
    assert caught.value.permanent
    return str(caught.value)


def test_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text(line("h.example"))
    assert check(path, KEY) == []
    for strict in ("yes", "ask", "accept-new"):
        assert f"its host key has changed: {OTHER.fingerprint} is not the one of {path}:1" in refusal(path, OTHER, strict)
    assert "has changed" in refusal(path, ELSE), "of another kind, where one is known"
    assert len(check(path, OTHER, "no")) == 1
    path.write_text(line("i.example"))
    assert "its host key is not known" in refusal(path, KEY)
    path.write_text(line("@revoked h.example"))
    assert "is marked @revoked" in refusal(path, KEY, "no")
    path.write_text(line("@cert-authority *.example"))
    assert "which only OpenSSH checks: use --ssh ssh" in refusal(path, OTHER)


def test_a_new_key_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / ".ssh" / "known"
    assert check(path, KEY, "accept-new") == []
    assert path.read_text() == line("h.example")
    assert "has changed" in refusal(path, OTHER, "accept-new")
    assert check(path, KEY) == []
