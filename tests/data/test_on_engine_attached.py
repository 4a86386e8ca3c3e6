"""--stage-on-engine with an attached host: its files are moved by the driver, and no key reaches who has attached it."""

from __future__ import annotations

from pathlib import Path

import pytest
from attach.meeting import Meeting
from data.conftest import WORKDIR, Bucket, Far, Keys, manifest
from data.spying import Spy
from data.test_on_engine import SECRET, SIGNED, cloud_config, proxy
from keyring import LAB
from staging.proxy import Proxy

__all__ = ["proxy"]  # a fixture that is written elsewhere

#: Notes all that the guest reads of its connection, in clear.
_NOTE = """\
import ssl
read = ssl.SSLObject.read
def noting(self, *arguments):
    data = read(self, *arguments)
    with open({path!r}, "ab") as file:
        file.write(data)
    return data
ssl.SSLObject.read = noting
"""


@pytest.mark.timeout(120)  # where it is the first, hosts and the S3 server start with it
def test_an_attached_host_gets_no_key_and_its_data_all_the_same(
    far: Far, bucket: Bucket, proxy: Proxy, gnupg: Keys, tmp_path: Path
) -> None:
    """Neither who has attached it nor the host itself, which notes what it is given."""
    spy = Spy(far.hosts, 1)
    config = tmp_path / "rclone.conf"
    config.write_text(cloud_config(proxy))
    bucket.put("in/a b", b"a" * 3_000_000)
    text = (
        "#TASKRUN STAGE-IN ENGINE s3://genomes/in/ in/\n#TASKRUN STAGE-OUT TASK out/$TASKRUN_REPEAT_INDEX s3://genomes/out/\n"
        "#TASKRUN STAGE-OUT TASK out/$TASKRUN_REPEAT_INDEX cloud:genomes/too/\n"
        f"#TASKRUN ENCRYPT {LAB}\n#TASKRUN STAGE-OUT all/* s3://genomes/all/\n"
        "#TASKRUN REPEAT 3 mkdir -p out all; cp in/* out/$TASKRUN_REPEAT_INDEX; hostname > all/$TASKRUN_REPEAT_INDEX\n"
    )
    meeting = Meeting(far.taskrun, text, "-S", "--stage-on-engine", "--settle", "60", "--rclone-config", str(config))
    (tmp_path / "sitecustomize.py").write_text(_NOTE.format(path=str(tmp_path / "read")))
    far.taskrun.env = {name: value for name, value in far.taskrun.env.items() if not name.startswith("AWS_")}
    far.taskrun.env["PYTHONPATH"] = str(tmp_path)
    guest = meeting.attach("-s", "host1:1", "--workdir", WORKDIR)
    result = meeting.running.finish(50)
    assert (result.code, guest.finish().code) == (0, 0), result.err
    assert [bucket.get(f"{folder}/{number}") for folder in ("out", "too") for number in range(3)] == [b"a" * 3_000_000] * 6
    assert bucket.keys("all/") == {f"all/{number}.gpg" for number in range(3)}
    found = manifest(result)
    assert {each["by"] for each in [*found["inputs"], *found["outputs"]]} == {"driver"}

    read, given = (tmp_path / "read").read_bytes(), spy.everything()
    assert b"a" * 10_000 in read, "it notes what there is to read"
    assert b"TASKRUN" in given
    for secret in (SECRET, SIGNED, "secret_access_key", "RCLONE_CONFIG"):
        assert secret.encode() not in read
        assert secret.encode() not in given
    assert "rclone remote" not in result.err, "nothing is handed to anybody"
    assert meeting.log().count("--stage-on-engine: the driver moves the data of attached hosts") == 1
