"""How many examples each fuzz test tries: some thousand in all by default, a million each with `make fuzz` (FUZZ_EXAMPLES)."""

from __future__ import annotations

import os

import hypothesis

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "400"))

fuzz = hypothesis.settings(
    hypothesis.settings.get_profile("taskrun"),
    max_examples=EXAMPLES,
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
)

#: For examples that cost milliseconds: a tenth of them.
costly = hypothesis.settings(fuzz, max_examples=max(100, EXAMPLES // 10))
