"""No room for a thread."""

from __future__ import annotations

import subprocess
import sys

FULL = """
import resource, time
from taskrun import threads
from taskrun.errors import Refused
threads.start(time.sleep, "one", 60)  # one that ended now would want a library more
resource.setrlimit(resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
try:
    threads.start(time.sleep, "another", 0)
except Refused as error:
    print(error)
"""


def test_no_room_for_a_thread_is_said_in_a_sentence() -> None:
    done = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "no thread can be started for another: raise `ulimit -v` or `ulimit -u`\n"
