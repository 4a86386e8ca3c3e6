"""How fast data moves, beside `rclone copy` with as many transfers, to the same S3 server and between folders.

    python benchmarks/staging.py [MIB] [LARGE_MIB] [FILES]

MIB (256): what is moved in files of 4 MiB, then as many bytes in one file. LARGE_MIB (0): before that one sparse file of that size, with
the most memory that each took (0 5120 shows that memory is flat at 5 GB). FILES (500): so many of 20 kB to and from two remotes of
rclone, which are that server and a folder. Needs rclone, and moto for the server (tests/cloud.py).
"""

from __future__ import annotations

import os
import queue
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from cloud import Cloud

from taskrun.staging.locations import parse
from taskrun.staging.mover import Event, Mover, Staged
from taskrun.staging.stores import Settings, Stores
from taskrun.staging.transfers import Request

MIB = 1 << 20
TRANSFERS = 4


def moved(folder: Path, source: str, dest: str, config: Path | None = None) -> None:
    """By taskrun's mover, verified. `config`: rclone's."""
    inbox: queue.Queue[Event] = queue.Queue()
    spool = folder / "spool"
    spool.mkdir(exist_ok=True)
    mover = Mover(Stores(Settings(folder, "bench", transfers=TRANSFERS, rclone_config=config)), inbox.put, spool, transfers=TRANSFERS)
    mover.stage(Request(1, parse(source), parse(dest)))
    while not isinstance(event := inbox.get(), Staged):
        pass
    mover.close()
    assert not event.failures, event.failures[0].why


def copied(config: Path, source: str, dest: str) -> None:
    """By rclone."""
    command = ["rclone", "--config", config, "copy", "--transfers", str(TRANSFERS), source, dest]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def rate(what: str, size: int, work: Callable[[], None]) -> None:
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    print(f"{what:42} {seconds:6.2f} s {size / MIB / seconds:7.0f} MiB/s")


def alone(what: str, size: int, work: Callable[[], None]) -> None:
    """In a process of its own, with the memory of the largest process."""
    begun = time.perf_counter()
    process = os.fork()
    if not process:
        failed = 1
        try:
            work()
            failed = 0
        finally:
            os._exit(failed)
    _, status, used = os.wait4(process, 0)
    assert status == 0
    seconds = time.perf_counter() - begun
    print(f"{what:42} {seconds:6.2f} s {size / MIB / seconds:7.0f} MiB/s {used.ru_maxrss / 1024:5.0f} MiB of memory", flush=True)


def one_large(folder: Path, cloud: Cloud, config: Path, mib: int) -> None:
    """A sparse file, which the server keeps as zeros, too (tests/testbed/large_objects.py): its disk has no part in it."""
    size = mib * MIB
    with (folder / "large").open("wb") as file:
        file.truncate(size)
    cloud.client().create_bucket(Bucket="large")
    alone(f"{mib} MiB: taskrun, to a folder", size, lambda: moved(folder, "large", "out/"))
    (folder / "out" / "large").unlink()
    alone(f"{mib} MiB: taskrun, to S3", size, lambda: moved(folder, "large", "s3://large/taskrun/"))
    alone(f"{mib} MiB: rclone copy, to S3", size, lambda: copied(config, str(folder / "large"), "cloud:large/rclone"))
    alone(f"{mib} MiB: taskrun, from S3", size, lambda: moved(folder, "s3://large/taskrun/large", "in/"))
    (folder / "in" / "large").unlink()
    alone(f"{mib} MiB: rclone copy, from S3", size, lambda: copied(config, "cloud:large/rclone/large", str(folder / "in")))
    (folder / "in" / "large").unlink()
    cloud.call("reset")


def compare(folder: Path, cloud: Cloud, config: Path, name: str, size: int) -> None:
    for who in ("taskrun", "rclone"):
        cloud.client().create_bucket(Bucket=f"{who}-{name}")
    rate(f"{name}: taskrun, to S3", size, lambda: moved(folder, f"{name}/", f"s3://taskrun-{name}/"))
    rate(f"{name}: rclone copy, to S3", size, lambda: copied(config, str(folder / name), f"cloud:rclone-{name}"))
    rate(f"{name}: taskrun, from S3", size, lambda: moved(folder, f"s3://taskrun-{name}/", f"in-taskrun-{name}/"))
    rate(f"{name}: rclone copy, from S3", size, lambda: copied(config, f"cloud:rclone-{name}", str(folder / f"in-rclone-{name}")))
    rate(f"{name}: taskrun, all there already", size, lambda: moved(folder, f"{name}/", f"s3://taskrun-{name}/"))
    rate(f"{name}: taskrun, to a folder", size, lambda: moved(folder, f"{name}/", f"out-taskrun-{name}/"))
    rate(f"{name}: rclone copy, to a folder", size, lambda: copied(config, str(folder / name), str(folder / f"out-rclone-{name}")))


def by_rclone(folder: Path, cloud: Cloud, config: Path, files: int) -> None:
    """Small files, of which each costs its calls."""
    size = files * 20_000
    (folder / "small").mkdir()
    for number in range(files):
        (folder / "small" / f"{number:04d}").write_bytes(os.urandom(20_000))
    for who in ("taskrun", "rclone"):
        cloud.client().create_bucket(Bucket=f"{who}-small")
    for remote, place in (("cloud:", "{}-small"), ("disk:", "{}")):
        there, here = remote + place, f"in-{remote[:-1]}-{{}}/"
        what = f"{files} x 20 kB:"
        busy(f"{what} taskrun, to {remote}", size, lambda to=there: moved(folder, "small/", to.format("taskrun") + "/", config))
        busy(f"{what} rclone copy, to {remote}", size, lambda to=there: copied(config, str(folder / "small"), to.format("rclone")))
        came = str(folder / here.format("rclone"))
        busy(
            f"{what} taskrun, from {remote}",
            size,
            lambda at=there, to=here: moved(folder, at.format("taskrun") + "/", to.format("taskrun"), config),
        )
        busy(f"{what} rclone copy, from {remote}", size, lambda at=there, to=came: copied(config, at.format("rclone"), to))
    cloud.call("reset")


def busy(what: str, size: int, work: Callable[[], None]) -> None:
    """With the CPU seconds of this process and of what it has started: those of the server are not among them."""

    def used() -> float:
        return sum(kind.ru_utime + kind.ru_stime for kind in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

    before = used()
    rate(what, size, work)
    print(f"{'':42} {used() - before:6.2f} s of CPU", flush=True)


def main(mib: int, large: int, small: int) -> None:
    cloud = Cloud()
    os.environ.pop("AWS_CA_BUNDLE", None)  # with it rclone 1.60 cannot use S3 at all
    os.environ.update(cloud.env)
    try:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            config = folder / "rclone.conf"
            config.write_text(
                f"[cloud]\ntype = s3\nprovider = Other\nendpoint = {cloud.endpoint}\nregion = us-east-1\n"
                f"access_key_id = testing\nsecret_access_key = testing\n[disk]\ntype = alias\nremote = {folder / 'disk'}\n"
            )
            (folder / "disk").mkdir()
            if small:
                by_rclone(folder, cloud, config, small)
            if large:
                one_large(folder, cloud, config, large)
            for name, files in (("many", max(1, mib // 4)), ("one", 1)) if mib else ():
                (folder / name).mkdir()
                for number in range(files):
                    (folder / name / f"{number:04d}").write_bytes(os.urandom(mib * MIB // files))
                compare(folder, cloud, config, name, mib * MIB)
                cloud.call("reset")
    finally:
        cloud.close()


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    main(*[*given, *(256, 0, 500)[len(given) :]])
