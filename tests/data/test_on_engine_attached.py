"""--stage-on-engine with an attached host: told through who attached it, it moves its files itself."""

from __future__ import annotations

import pytest
from attach.meeting import Meeting
from data.conftest import WORKDIR, Bucket, Far, Keys, manifest
from data.test_on_engine import proxy
from staging.proxy import Proxy
from staging.test_encryption import LAB

__all__ = ["proxy"]  # a fixture that is written elsewhere


@pytest.mark.timeout(120)  # where it is the first, hosts and the S3 server start with it
def test_an_attached_host_moves_its_files_itself(far: Far, bucket: Bucket, proxy: Proxy, gnupg: Keys) -> None:
    """But for what is encrypted: keys stay with the driver."""
    bucket.put("in/a b", b"a" * 3_000_000)
    text = (
        "#TASKRUN STAGE-IN ENGINE s3://genomes/in/ in/\n#TASKRUN STAGE-OUT TASK out/$TASKRUN_REPEAT_INDEX s3://genomes/out/\n"
        f"#TASKRUN ENCRYPT {LAB}\n#TASKRUN STAGE-OUT all/* s3://genomes/all/\n"
        "#TASKRUN REPEAT 3 mkdir -p out all; cp in/* out/$TASKRUN_REPEAT_INDEX; hostname > all/$TASKRUN_REPEAT_INDEX\n"
    )
    meeting = Meeting(far.taskrun, text, "-S", "--stage-on-engine", "--settle", "60")
    guest = meeting.attach("-s", "host1:1", "--workdir", WORKDIR)
    result = meeting.running.finish(50)
    assert (result.code, guest.finish().code) == (0, 0), result.err
    assert [bucket.get(f"out/{number}") for number in range(3)] == [b"a" * 3_000_000] * 3
    assert bucket.keys("all/") == {f"all/{number}.gpg" for number in range(3)}
    found = manifest(result)
    for each in [*found["inputs"], *found["outputs"]]:
        assert each["by"] == ("driver" if "/all/" in each["dest"] else "host1"), each
