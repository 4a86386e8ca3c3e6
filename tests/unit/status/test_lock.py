"""One driver per prefix: who is refused, who takes over, and that of many takers one wins."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskrun.errors import Refused
from taskrun.status import lock as lock_module
from taskrun.status import names, owner
from taskrun.status.lock import Lock, acquire, acquire_or_check
from taskrun.status.owner import Owner


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def path(prefix: Path) -> Path:
    return prefix.with_name("run.lock")


@pytest.fixture
def living() -> Iterator[Owner]:
    """Another live process on this host, as the owner of a lock."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield owner_of(process.pid)
        process.kill()


def owner_of(pid: int, **changes: object) -> Owner:
    mine = owner.this_process("other")
    values = {name: getattr(mine, name) for name in mine.__dataclass_fields__}
    return Owner(**{**values, "pid": pid, "start_time": owner._start_time(pid), **changes})


def dead(**changes: object) -> Owner:
    process = subprocess.Popen(["true"])
    process.wait()
    return owner_of(process.pid, start_time=1, **changes)


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def only(path: Path) -> None:
    """Nothing but the lock is in its folder."""
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("status", "lock"),
    [
        ("x_status.txt", "x.lock"),
        ("x_status.txt.unwritten", "x.lock"),
        ("old.txt", "old.txt.lock"),
        ("_status.txt", "_status.txt.lock"),
    ],
)
def test_names(status: str, lock: str) -> None:
    assert names.with_suffix(names.prefix_of(Path(status)), names.LOCK) == Path(lock)


def test_taken_touched_and_released(prefix: Path, path: Path) -> None:
    lock = acquire(prefix, "r1")
    only(path)
    values = json.loads(path.read_bytes())
    assert (values["v"], values["run_id"], values["pid"], values["host"]) == (1, "r1", os.getpid(), socket.gethostname())
    assert values["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    assert values["start_time"] == int(Path("/proc/self/stat").read_bytes().rsplit(b")", 1)[1].split()[19])
    age(path, 100)
    assert lock.touch()
    assert time.time() - path.stat().st_mtime < 50
    assert lock.previous is None
    lock.release()
    lock.release()
    assert list(path.parent.iterdir()) == []


def test_a_live_owner_on_this_host_is_refused_whatever_is_asked(prefix: Path, path: Path, living: Owner) -> None:
    path.write_bytes(living.to_json())
    age(path, 10_000)
    for attempt in (acquire, acquire_or_check):
        with pytest.raises(Refused) as raised:
            attempt(prefix, "mine", take_over=True)
        when = re.escape(time.strftime("%Y-%m-%d %H:%M", time.localtime(living.since)))
        assert re.fullmatch(
            f"{path} is held by run other \\(process {living.pid} on .*, since {when}\\), which is running: "
            f'wait, end it \\(kill {living.pid}\\) or give another -p',
            str(raised.value),
        )  # fmt: skip
    assert path.read_bytes() == living.to_json()
    only(path)


def test_a_lock_of_this_very_process_is_held(prefix: Path) -> None:
    lock = acquire(prefix, "r1")
    with pytest.raises(Refused, match="is held by run r1"):
        acquire(prefix, "r1")
    lock.release()


@pytest.mark.parametrize("how", ["dead", "pid used again", "other boot", "zombie"])
def test_a_dead_owner_on_this_host_is_succeeded(prefix: Path, path: Path, living: Owner, how: str) -> None:
    zombie = subprocess.Popen(["true"])
    while b") Z" not in Path(f"/proc/{zombie.pid}/stat").read_bytes():
        time.sleep(0.01)
    held = {
        "dead": dead(),
        "pid used again": owner_of(living.pid, start_time=living.start_time - 1),
        "other boot": owner_of(living.pid, boot_id="before"),
        "zombie": owner_of(zombie.pid, start_time=17),
    }[how]
    path.write_bytes(held.to_json())
    lock = acquire(prefix, "mine")
    assert lock.previous == held
    assert lock.touch()
    only(path)
    lock.release()
    zombie.wait()


@pytest.mark.parametrize("where", ["host", "machine", "container"])
def test_an_owner_elsewhere_is_refused_until_it_is_silent(prefix: Path, path: Path, where: str) -> None:
    changes = {"host": {"host": "node7"}, "machine": {"machine": "x"}, "container": {"pid_space": "pid:[1]"}}[where]
    held = dead(**changes).to_json()
    path.write_bytes(held)
    age(path, 42)
    with pytest.raises(Refused, match=r"last heard of 4[2-9] s ago: wait until it has been silent for 180 s, or give --take-over"):
        acquire(prefix, "mine")
    only(path)
    acquire(prefix, "mine", lost_after=40).release()
    path.write_bytes(held)
    acquire(prefix, "mine", take_over=True).release()
    assert list(path.parent.iterdir()) == []


def test_a_lock_from_the_future_is_not_silent(prefix: Path, path: Path) -> None:
    path.write_bytes(dead(host="node7").to_json())
    age(path, -10_000)
    with pytest.raises(Refused, match="last heard of 0 s ago"):
        acquire(prefix, "mine")


@pytest.mark.parametrize("garbage", [b"", b"garbage", b"[]", b'{"v":1}', b'{"pid":"1"}', b"\xff"])
def test_a_lock_that_does_not_say_whose_it_is(prefix: Path, path: Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    with pytest.raises(Refused, match="does not say whose it is: wait until it has been silent for 180 s"):
        acquire(prefix, "mine")
    age(path, 200)
    lock = acquire(prefix, "mine")
    assert lock.previous is None
    lock.release()


def test_a_folder_that_takes_no_lock(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"run.lock cannot be made: No such file or directory"):
        acquire(tmp_path / "no" / "run", "mine")
    with pytest.raises(Refused, match=r"run.lock cannot be made: No such file or directory"):
        acquire_or_check(tmp_path / "no" / "run", "mine")


def test_a_lock_that_cannot_be_opened_again_does_not_stay(prefix: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run under `umask 777` was refused, and its lock then blocked the prefix for ever."""

    def closed(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(lock_module, "Lock", closed)
        with pytest.raises(Refused, match="cannot be made: Permission denied"):
            acquire(prefix, "mine")
    assert not list(path.parent.iterdir())
    path.touch(mode=0o000)
    for take in (acquire, acquire_or_check):
        with monkeypatch.context() as patch:
            patch.setattr(lock_module, "_read", closed)
            with pytest.raises(Refused, match=r"run.lock cannot be read: Permission denied; it is yours, .*: `chmod 600 "):
                take(prefix, "mine")


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_where_nothing_can_be_written_it_is_only_looked(
    prefix: Path, path: Path, monkeypatch: pytest.MonkeyPatch, code: int, living: Owner
) -> None:
    def closed(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock_module, "_Draft", closed)
    assert acquire_or_check(prefix, "mine") is None
    with pytest.raises(Refused, match="cannot be made"):
        acquire(prefix, "mine")
    path.write_bytes(living.to_json())
    with pytest.raises(Refused, match="which is running"):
        acquire_or_check(prefix, "mine")
    path.write_bytes(dead().to_json())
    assert acquire_or_check(prefix, "mine") is None
    path.write_bytes(dead(host="node7").to_json())
    with pytest.raises(Refused, match="last heard of"):
        acquire_or_check(prefix, "mine")


def test_a_file_system_without_links(prefix: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(lock_module.os, "link", no_links)
    lock = acquire(prefix, "r1")
    only(path)
    assert lock.touch()
    lock.release()
    path.write_bytes(dead().to_json())
    lock = acquire(prefix, "r2")
    only(path)
    assert lock.touch()
    lock.release()
    assert list(path.parent.iterdir()) == []


def test_a_lock_that_was_taken_over_is_noticed_and_left_alone(prefix: Path, path: Path) -> None:
    mine = acquire(prefix, "mine")
    other = path.with_name("other")
    other.write_bytes(dead(host="node7").to_json())
    other.replace(path)
    assert not mine.touch()
    mine.release()
    assert owner.from_json(path.read_bytes()).host == "node7"
    path.unlink()
    again = acquire(prefix, "mine")
    path.unlink()
    assert not again.touch()
    again.release()


def test_a_slow_taker_does_not_replace_the_lock_of_a_fast_one(prefix: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(dead().to_json())
    winners: list[Lock] = []
    judged = lock_module._refuse_unless_dead

    def overtaken(*arguments: object) -> None:
        judged(*arguments)
        if not winners:
            winners.append(None)  # type: ignore[arg-type]
            winners[0] = acquire(prefix, "fast")

    monkeypatch.setattr(lock_module, "_refuse_unless_dead", overtaken)
    with pytest.raises(Refused, match="is held by run fast"):
        acquire(prefix, "slow")
    assert winners[0].touch()
    winners[0].release()
    assert list(path.parent.iterdir()) == []


def test_what_killed_takers_left_is_passed_over_and_cleared(prefix: Path, path: Path) -> None:
    held = dead().to_json()
    path.write_bytes(held)
    digest = lock_module._digest(held)
    for number in range(3):
        path.with_name(f"run.lock.claim-{digest}-{number}").write_bytes(dead().to_json())
    path.with_name("run.lock.0123456789ab").write_bytes(dead().to_json())
    acquire(prefix, "mine").release()
    assert list(path.parent.iterdir()) == []


def test_a_claim_of_a_live_taker_is_respected(prefix: Path, path: Path, living: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "_PATIENCE", 0.1)
    held = dead().to_json()
    path.write_bytes(held)
    claim = path.with_name(f"run.lock.claim-{lock_module._digest(held)}-0")
    claim.write_bytes(living.to_json())
    with pytest.raises(Refused, match="just being taken over"):
        acquire(prefix, "mine")
    assert path.read_bytes() == held
    assert claim.exists()


RACE = """
import os, random, signal, sys, time
from pathlib import Path
from taskrun.errors import Refused
from taskrun.status import lock as module, owner

rounds, takers, killed_part, folder = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
prefix = folder / "run"
path = folder / "run.lock"
gone = os.fork()
if gone == 0:
    os._exit(0)
os.waitpid(gone, 0)

def taker(seed, go, say, stay):
    random.seed(seed)
    if random.random() < killed_part:  # dies by SIGKILL somewhere on its way
        countdown = [random.randrange(12)]
        def watch(name, args):
            if name in ("os.link", "os.rename", "os.remove", "open", "os.utime"):
                countdown[0] -= 1
                if countdown[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(watch)
    os.read(go, 1)
    try:
        lock = module.acquire(prefix, f"taker{seed}")
    except Refused:
        os._exit(1)
    os.write(say, b"w")
    os.read(stay, 1)
    assert lock.touch()
    os._exit(0)  # dies with its lock

for number in range(rounds):
    if number == 0:
        held = owner.this_process("first").to_json().replace(b'"pid": %d' % os.getpid(), b'"pid": %d' % gone)
        path.write_bytes(held)
    go, start = os.pipe()
    said, say = os.pipe()
    stay, end = os.pipe()
    pids = []
    for one in range(takers):
        pid = os.fork()
        if pid == 0:
            os.close(start), os.close(said), os.close(end)
            taker(number * 1000 + one, go, say, stay)
        pids.append(pid)
    os.close(go), os.close(say), os.close(stay)
    os.close(start)
    left = set(pids)
    status = {}
    until = time.monotonic() + 20
    won = b""
    os.set_blocking(said, False)
    while len(left) > len(won) and time.monotonic() < until:
        for pid in list(left):
            done, code = os.waitpid(pid, os.WNOHANG)
            if done:
                left.discard(pid)
                status[pid] = code
        try:
            won += os.read(said, 100)
        except BlockingIOError:
            pass
        time.sleep(0.001)
    os.close(end)
    for pid in left:
        status[pid] = os.waitpid(pid, 0)[1]
    assert len(won) <= 1, f"{len(won)} won"
    refused = sum(code == 256 for code in status.values())
    killed = sum(code == signal.SIGKILL for code in status.values())
    assert len(won) + refused + killed == takers, status
    assert won or killed, f"nobody won and nobody was killed: {status}"
    print(len(won), refused, killed)
lock = module.acquire(prefix, "last")
assert sorted(os.listdir(folder)) == ["run.lock"], os.listdir(folder)
"""


@pytest.mark.parametrize("killed_part", [0.0, 0.5], ids=["all live", "half are killed on their way"])
def test_of_many_takers_one_wins(tmp_path: Path, killed_part: float) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE, "25", "8", str(killed_part), tmp_path], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = [line.split() for line in done.stdout.splitlines()]
    assert len(outcomes) == 25
    if not killed_part:
        assert all(won == "1" for won, _, _ in outcomes)
