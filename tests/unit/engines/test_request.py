"""Hosts and slots as -s, -c and -t say them."""

from __future__ import annotations

import pytest

from taskrun.engines.request import HOSTS_MOST, divide, parse_hosts, slots_in
from taskrun.errors import Refused


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["a:4"], {"a": 4}),
        (["a:1,b:2", "c:3"], {"a": 1, "b": 2, "c": 3}),
        ([" a : 4 , b:2,"], {"a": 4, "b": 2}),
        (["me@gpu01:4"], {"me@gpu01": 4}),
        (["n[08-11]:2"], {"n08": 2, "n09": 2, "n10": 2, "n11": 2}),
        (["n[1-2,7]x[3,4]:1"], {"n1x3": 1, "n1x4": 1, "n2x3": 1, "n2x4": 1, "n7x3": 1, "n7x4": 1}),
        (["me@n[1-2]-ib:3,z:1"], {"me@n1-ib": 3, "me@n2-ib": 3, "z": 1}),
        (["[::1]:2"], {"::1": 2}),
        (["a.b.example:2"], {"a.b.example": 2}),
        (["4"], {"localhost": 4}),
        (["4,host2:3", "4:1"], {"localhost": 4, "host2": 3, "4": 1}),
    ],
)
def test_hosts(given: list[str], found: dict[str, int]) -> None:
    assert parse_hosts(given) == (found, [])


def test_a_host_that_is_named_twice() -> None:
    assert parse_hosts(["a:1,b:1", "a:2"]) == ({"a": 3, "b": 1}, ["a is named more than once: its cores are added up"])


@pytest.mark.parametrize(
    "given",
    ["a", "0", "-4", "4.5", "²", "a:", ":4", "a:0", "a:-1", "a:4.5", "", ",", "n[1-]:2", "n[]:2", "n[a-b]:2", "n[2-1]:2",
     "n[1-99999999999]:2", "a b:2",
     "-l:2",
          "me@-x:2", "a/b:2", "a@b@c:2", "n[1-200][1-200]:1", "a\x1b:2", "n[1-2:4", "n1-2]:4",
     "a:1" + "0" * 400],
)  # fmt: skip
def test_refused(given: str) -> None:
    with pytest.raises(Refused) as caught:
        parse_hosts([given])
    assert "-s" in str(caught.value)


def test_as_many_hosts_as_can_be() -> None:
    hosts, _ = parse_hosts([f"n[1-{HOSTS_MOST}]:1"])
    assert len(hosts) == HOSTS_MOST


def test_slots() -> None:
    requests = divide({"me@a": 8, "b": 3, "c": 1}, 2.0, -1)
    assert [(each.host, each.address, each.cores, each.slots, each.cores_per_task) for each in requests] == [
        ("a", "me@a", 8, 4, 2), ("b", "b", 3, 1, 3),
    ]  # fmt: skip
    assert [each.slots for each in divide({"a": 8}, -1.0, 3)] == [3]
    with pytest.raises(Refused, match="-c 9: no host has that many cores; at most -c 8 fits"):
        divide({"a": 8}, 9.0, -1)


def test_slots_of_fractions_are_exact() -> None:
    for cores in range(1, 65):
        for text, over, under in [
            ("0.1", 1, 10),
            ("0.2", 1, 5),
            ("0.3", 3, 10),
            ("0.05", 1, 20),
            ("0.7", 7, 10),
            ("1.1", 11, 10),
            ("2.5", 5, 2),
        ]:
            assert slots_in(cores, float(text)) == cores * under // over, (cores, text)
    assert [each.slots for each in divide({"a": 1}, 0.1, -1)] == [10]
    assert slots_in(1, 1e-300) == 10**300
