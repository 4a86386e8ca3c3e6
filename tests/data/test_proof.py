"""Issue 6's proof: encrypted inputs from S3, tasks on two hosts that share nothing, signed encrypted outputs back, the driver killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from data.conftest import WORKDIR, Bucket, Far, Keys, manifest, moved
from harness import until
from keyring import LAB, LOCKED, PASSPHRASE

TASKS = 8
MARKER = "MARKER-7b1f-cleartext"
TEXT = f"""\
#TASKRUN ENCRYPT {LAB},{LOCKED} SIGN {LOCKED}
#TASKRUN STAGE-IN ENGINE s3://genomes/panel/*.gpg ref/
#TASKRUN STAGE-OUT calls/*.txt s3://genomes/calls/
#TASKRUN STAGE-IN TASK s3://genomes/in/$TASKRUN_REPEAT_INDEX.bam.gpg work/
#TASKRUN STAGE-OUT TASK out/$TASKRUN_REPEAT_INDEX.vcf s3://genomes/out/
#TASKRUN REPEAT {TASKS} ./../call.sh $TASKRUN_REPEAT_INDEX
"""
CALL = """\
#!/bin/sh
mkdir -p out calls; sleep 0.3
cat ref/panel work/$1.bam > out/$1.vcf; cp out/$1.vcf calls/.$1; mv calls/.$1 calls/$1.txt; echo "$1" >> ran
"""


class Watch:
    """Looks through all command lines and environments of the machine, over and over, for what must not be there."""

    def __init__(self, *secrets: str) -> None:
        self._secrets = [secret.encode() for secret in secrets]
        self.seen: set[str] = set()
        self.looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            self.looks += 1
            for process in Path("/proc").iterdir():
                if process.name.isdigit() and process.name != str(os.getpid()):
                    for name in ("cmdline", "environ"):
                        try:
                            text = (process / name).read_bytes()
                        except OSError:
                            continue
                        if any(secret in text for secret in self._secrets):
                            self.seen.add(text.replace(b"\0", b" ").decode("utf-8", "replace"))

    def close(self) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def watch() -> Iterator[Watch]:
    made = Watch(PASSPHRASE, MARKER)
    yield made
    made.close()


def holders(*folders: Path) -> set[str]:
    """Files that hold the marker."""
    found = set()
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                path = Path(parent, name)
                if path.is_file() and not path.is_symlink() and MARKER.encode() in path.read_bytes():
                    found.add(str(path.relative_to(folder)))
    return found


@pytest.mark.timeout(120)
def test_the_proof(far: Far, bucket: Bucket, gnupg: Keys, watch: Watch, tmp_path_factory: pytest.TempPathFactory) -> None:
    sealing = tmp_path_factory.mktemp("sealing")
    for name, key in (("panel", "panel/panel.gpg"), *((str(number), f"in/{number}.bam.gpg") for number in range(TASKS))):
        (sealing / "clear").write_text(f"{MARKER} {name}\n")
        unlock = ("--pinentry-mode", "loopback", "--passphrase-file", str(gnupg.home / "pass"))
        files = ("-o", str(sealing / "sealed"), "-e", str(sealing / "clear"))
        gnupg.gpg("--yes", "--trust-model", "always", *unlock, "-s", "-u", f"<{LOCKED}>", "-r", LAB, *files)
        bucket.put(key, (sealing / "sealed").read_bytes())
    (sealing / "clear").unlink()
    for k in (1, 2):
        script = far.hosts.path(k, "/srv/call.sh")
        script.write_text(CALL)
        script.chmod(0o755)
    far.taskrun.env["AWS_SECRET_ACCESS_KEY"] = "testing"

    text = TEXT.replace("./../call.sh", "../call.sh")
    flags = ("--passphrase-file", str(gnupg.home / "pass"), "--loglevel", "DEBUG")
    running = far.start(text, *flags, where="host1:1,host2:1")
    status = far.taskrun.folder / "run_status.txt"
    until(lambda: status.exists() and status.read_bytes().count(b"\n") >= 2, 60, "some records")
    time.sleep(0.1)
    os.kill(running.pid, signal.SIGKILL)
    running.process.wait()
    before = {key: bucket.age(key) for key in bucket.keys("out/")}
    recorded = status.read_bytes().count(b"\n")
    assert 2 <= recorded < TASKS

    result = far(text, *flags, "-r", "run_status.txt", prefix="again", where="host1:1,host2:1")
    assert result.code == 0, result.err
    records = [each for each in result.records() if not each["Flags"].endswith("S")]
    assert {each["ReturnCode"] for each in records} == {0}
    ran = sorted(number for k in (1, 2) for number in (far.folder(k) / "ran").read_text().split())
    assert set(ran) == {str(number) for number in range(TASKS)}
    # every output is there exactly once, decrypts, verifies; what was delivered before the kill was not written again
    names = {f"{folder}/{number}.{end}.gpg" for folder, end in (("out", "vcf"), ("calls", "txt")) for number in range(TASKS)}
    assert bucket.keys("out/") | bucket.keys("calls/") == names
    for key in sorted(names):
        (sealing / "back").write_bytes(bucket.get(key))
        clear = gnupg.gpg("--status-fd", "1", "--pinentry-mode", "loopback", "--passphrase-file", str(gnupg.home / "pass"), "-o", "-",
                          "-d", str(sealing / "back"))  # fmt: skip
        number = Path(key).name.split(".")[0]
        assert f"{MARKER} panel\n{MARKER} {number}\n" in clear
        assert f"VALIDSIG {gnupg.fingerprints[LOCKED]}" in clear
        assert MARKER.encode() not in bucket.get(key)
    finished = {each["TaskID"] for each in result.records() if each["Flags"].endswith("S")}
    for number in finished:
        key = f"out/{number}.vcf.gpg"
        assert bucket.age(key) == before[key]
        assert f"s3://genomes/{key}" not in moved(result, "out")
    found = manifest(result)
    assert {each["dest"].removeprefix("s3://genomes/") for each in found["outputs"]} == names
    assert {each["signer"] for each in found["outputs"]} == {gnupg.fingerprints[LOCKED]}
    # no cleartext but in the working directories; no secret anywhere
    (sealing / "back").unlink()
    assert (
        holders(far.taskrun.folder, Path(far.taskrun.env["TMPDIR"]), Path(far.taskrun.env["HOME"]), sealing, far.hosts.path(3, "/srv"))
        == set()
    )
    for k in (1, 2):
        for top in ("/root", "/home", "/opt", "/mnt", "/tmp", "/var/tmp", "/dev/shm"):
            assert holders(far.hosts.path(k, top)) == set()
        assert {name.split("/")[0] for name in holders(far.hosts.path(k, "/srv"))} == {WORKDIR.rpartition("/")[2]}
        assert not list(far.folder(k).rglob(".taskrun-*"))
    for path in far.taskrun.folder.glob("*_*"):
        assert PASSPHRASE.encode() not in path.read_bytes()
    assert list(Path(far.taskrun.env["TMPDIR"]).glob("taskrun-*")) == []
    assert watch.seen == set()
    assert watch.looks > 20
