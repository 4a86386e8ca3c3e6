"""Whatever comes as a control frame: it is a message of known types and ranges, or it is Bad; and what is said is understood."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrun.engines import attach_frames as at

KINDS = (
    at.Hello, at.Greeting, at.Prove, at.Proven, at.Join, at.Ends, at.Joined, at.Start, at.Serve, at.Kill, at.Failed, at.Ended, at.Detach,
    at.Look, at.Seen, at.Done, at.Refusal, at.Over, at.Beat,
)  # fmt: skip
OFFER = at.Offer("me@gpu01", "gpu01", 8, 4, 2, {"gpus": ""}, {"A": "b\nc"})
SAMPLES: tuple[at.Message, ...] = (
    at.Hello(1, "join", "0" * 64),
    at.Greeting("a" * 64, "run"),
    at.Prove("b" * 64),
    at.Proven("c" * 64, -1.0, -1, ["CUDA"], 180.0),
    at.Join("mine", 3, -1.0, [OFFER], "~/work", {"NAME": "näme"}, 1000, "a" * 64),
    at.Ends(60.0),
    at.Joined("SSH1"),
    at.Start(3, "me@gpu01"),
    at.Serve(4, "me@gpu01", "sums"),
    at.Kill(3),
    at.Failed(3, "no route", permanent=False, lives_on=True),
    at.Failed(4, "exit code 137", permanent=False, lives_on=False, died=True),
    at.Ended(3),
    at.Detach("gpu01_3", now=True),
    at.Look(),
    at.Seen({"a": 1}),
    at.Done("so it is"),
    at.Refusal("no"),
    at.Over("it was detached", 0),
    at.Beat(),
)

values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(["join", "0" * 64, "h", "\0", "../x"]),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_what_is_said_is_understood(message: at.Message) -> None:
    frame = json.loads(json.dumps(at.frame_of(message)))
    assert at.message_of(frame, type(message)) == message
    for kind in KINDS:
        if kind is not type(message):
            with pytest.raises(at.Bad):
                at.message_of(frame, kind)


@given(st.sampled_from(SAMPLES), st.data())
def test_one_field_that_is_wrong(message: at.Message, data: st.DataObject) -> None:
    frame = json.loads(json.dumps(at.frame_of(message)))
    name = data.draw(st.sampled_from(sorted(frame)))
    if name == "k":
        return
    frame[name] = data.draw(values)
    check(frame, type(message))


def nested(depth: int) -> Any:
    value: Any = ""
    for _ in range(depth):
        value = {"gpus": value}
    return value


SHARES: list[Any] = [
    nested(3), {"gpus": ["all"]}, {"gpus": "some"}, {"cores": -1}, {"cores": True}, {"variables": "A"}, {"variables": [1]}, {"more": 1}, [],
]  # fmt: skip


@pytest.mark.parametrize("share", SHARES)
def test_shares_that_cannot_be(share: Any) -> None:
    """They go on to the agent: what was nested deeply enough once ended the run."""
    frame = at.frame_of(at.Join("", 0, -1.0, [OFFER._replace(share=share)], "", {}))
    with pytest.raises(at.Bad):
        at.message_of(frame, at.Join)


@given(st.lists(values, min_size=7, max_size=7))
def test_offers_of_anything(row: list[Any]) -> None:
    frame = at.frame_of(at.Join("", 0, -1.0, [OFFER], "", {}))
    check({**frame, "offers": [row]}, at.Join)
    for place, value in enumerate(row):
        good = list(OFFER)
        good[place] = value
        check({**frame, "offers": [good]}, at.Join)


def check(frame: dict[str, Any], kind: type) -> None:
    try:
        message = at.message_of(frame, kind)
    except at.Bad as caught:
        said = str(caught)
    else:
        said = ""
        check_message(message, kind)
    assert len(said) < 1000
    assert said.isprintable()


def check_message(message: at.Message, kind: type) -> None:
    assert type(message) is kind
    for value in message:
        if isinstance(value, float):
            assert math.isfinite(value)
    if isinstance(message, at.Join):
        for offer in message.offers:
            assert "/" not in offer.host
            assert offer.host.isprintable()
            assert offer.host not in ("", ".", "..")
            assert 0 < offer.slots <= at.SLOTS_MOST
