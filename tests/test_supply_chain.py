"""The packages that a checkout is set up with: locked by hash, and looked up for known vulnerabilities (scripts/lock, scripts/audit)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from harness import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

LOCKS = ROOT / "scripts" / "locks"
_PINNED = re.compile(r"([a-z0-9-]+)==([^ ;]+)(?: ; [^\\]+)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)")


def _locked(name: str) -> dict[str, str]:
    """Return package → release of a lock. Every line of the file must be part of a pinned requirement with its hashes, or a comment."""
    text = (LOCKS / f"{name}.txt").read_text("utf-8")
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    assert _PINNED.sub("", body) == "", "a line that pins nothing"
    return {match[1]: match[2] for match in _PINNED.finditer(body)}


def _wanted(extra: str = "") -> set[str]:
    """Return the names that an installation asks for by pyproject.toml, with an extra or without, normalised as in PEP 503."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return {re.split(r"[\[<>=~! ]", each, maxsplit=1)[0].lower().replace("_", "-") for each in wanted}


def test_the_locks_pin_every_package_by_hash() -> None:
    run, test = _locked("run"), _locked("test")
    assert _wanted() | _wanted("build") <= set(run)
    assert _wanted("test") <= set(test)
    assert {name: test.get(name) for name in run} == run, "what both hold is of the same release"


def test_the_locks_name_no_server() -> None:
    for path in LOCKS.iterdir():
        assert not re.search(r"://|--(extra-)?index|--find-links", path.read_text("utf-8")), f"{path.name} names where packages come from"


def _audit(folder: Path, answer: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of scripts/audit with a pip_audit that prints `answer` and counts its calls in the file `asked`."""
    for name in ("scripts/locks", ".venv"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "scripts" / "audit", folder / "scripts" / "audit")
    lock = folder / "scripts" / "locks" / "test.txt"
    if not lock.exists():
        lock.write_text("lark==1.0 --hash=sha256:0\n")
    (folder / "pip_audit.py").write_text(f"open({str(folder / 'asked')!r}, 'a').write('x')\nprint({answer!r})\n")
    command = [sys.executable, str(folder / "scripts" / "audit"), *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(folder)})


def _calls(folder: Path) -> int:
    return len((folder / "asked").read_text())


def test_a_known_vulnerability_fails_the_check_until_it_is_gone(tmp_path: Path) -> None:
    bad = {"name": "lark", "version": "1.0", "vulns": [{"id": "CVE-2026-1", "fix_versions": ["1.1"]}]}
    good = {"name": "rich", "version": "1.0", "vulns": []}
    answer = json.dumps({"dependencies": [good, bad]})
    for calls in (1, 2):  # asked again: a failure is not kept
        done = _audit(tmp_path, answer)
        assert (done.returncode, done.stderr) == (1, "audit: lark 1.0: CVE-2026-1, fixed in 1.1: make lock\n")
        assert _calls(tmp_path) == calls
    done = _audit(tmp_path, json.dumps({"dependencies": [good]}))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_good_answer_is_kept_for_a_day_unless_asked_for_now(tmp_path: Path) -> None:
    answer = json.dumps({"dependencies": [{"name": "lark", "version": "1.0", "vulns": []}]})
    assert _audit(tmp_path, answer).returncode == _audit(tmp_path, answer).returncode == 0
    assert _calls(tmp_path) == 1
    assert _audit(tmp_path, answer, "--now").returncode == 0
    assert _calls(tmp_path) == 2


@pytest.mark.parametrize("answer", ["", "no connection", '{"dependencies": [{"name": "lark", "skip_reason": "not found"}]}'])
def test_without_the_database_the_check_goes_on_and_says_so(tmp_path: Path, answer: str) -> None:
    done = _audit(tmp_path, answer)
    assert (done.returncode, done.stderr) == (0, "audit: skipped: the database of known vulnerabilities cannot be reached\n")
