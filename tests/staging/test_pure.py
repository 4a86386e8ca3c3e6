"""Locations, plans, patience, cleaning, settling, manifest: what needs no store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrun.errors import RecordsFailed, Refused
from taskrun.staging import cleaning, manifest
from taskrun.staging.cleaning import Mode, Present
from taskrun.staging.locations import Location, Pattern, escape, expand, parse, target
from taskrun.staging.settling import Settling
from taskrun.staging.sftp import SftpStore
from taskrun.staging.store import Denied, Entry, Transient
from taskrun.staging.transfers import Delivery, Patience, Request, Tally, delivery_from_json, plan, shortage


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("ref/x", Location("local", "", "ref/x")),
        ("/a b/*.fa", Location("local", "", "/a b/*.fa")),
        ("./a:b", Location("local", "", "./a:b")),
        ("dir/a:b", Location("local", "", "dir/a:b")),
        ("file:///a%20b/c", Location("local", "", "/a b/c")),
        ("file://localhost/x", Location("local", "", "/x")),
        ("s3://genomes/panel/*.fa.gpg", Location("s3", "genomes", "panel/*.fa.gpg")),
        ("s3://genomes", Location("s3", "genomes", "")),
        ("s3://b-1/a//b%20", Location("s3", "b-1", "a//b%20")),
        ("sftp://me@host/data/x%20y", Location("sftp", "me@host", "/data/x y")),
        ("sftp://host:2222/~/x", Location("sftp", "host:2222", "x")),
        ("sftp://[::1]/x", Location("sftp", "[::1]", "/x")),
        ("remote:path/to/*", Location("rclone", "remote", "path/to/*")),
        ("my remote:", Location("rclone", "my remote", "")),
    ],
)
def test_locations(text: str, location: Location) -> None:
    assert parse(text) == location
    assert parse(str(location)) == location


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("s4://bucket/x", "no store called s4"),
        ("s3:///x", "bucket"),
        ("s3://a/", "bucket"),
        ("file://host/x", "sftp://host/x"),
        ("sftp://me:secret@host/x", "password"),
        ("sftp:///x", "host is missing"),
        ("sftp://-oProxyCommand=x/y", "no name of a host"),
        ("sftp://me@h;id/y", "no name of a host"),
        ("sftp://host:port/x", "write sftp"),
        (":s3,access_key_id=secret:bucket", "may hold secrets"),
        ("remote,key=secret:x", "name of a remote"),
        ("http://me:secret@host/", "no store"),
        ("a\0b", "NUL"),
    ],
)
def test_what_is_no_location_says_why(text: str, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        parse(text)
    assert "secret" not in str(caught.value).replace("may hold secrets", "")


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a/*.fa", {"a/x.fa": "x.fa"}, ["a/.x.fa", "a/b/x.fa", "b/x.fa", "a/x.fab"]),
        ("a/", {"a/x": "x", "a/b/.c": "b/.c", "a/n\nl": "n\nl"}, ["a/", "b/x", "a/b/", "a/.taskrun-t-0~", "a/.taskrun-t-0~/x"]),
        ("", {"x": "x", "a/b": "a/b"}, [".taskrun-t-0~"]),
        ("**/x", {"x": "x", "a/b/x": "a/b/x"}, ["a/.b/x", "xx"]),
        ("a/**", {"a/b": "b", "a/b/c": "b/c"}, ["a/.b", "a/b/.c"]),
        ("a[*]b", {"a*b": "a*b"}, ["axb"]),
        ("[!a]?[b-d]", {"xyc": "xyc"}, ["ayc", "xye", "x/c"]),
        ("x[", {"x[": "x["}, ["x"]),
        ("x[d-b]*", {}, ["xc", "x"]),
        ("./r/*.vcf", {"./r/a.vcf": "a.vcf"}, ["r/a.vcf"]),
        ("a/*/c/", {"a/b/c/d/e": "b/c/d/e"}, ["a/b/x/d"]),
        ("-x", {"-x": "-x"}, []),
    ],
)
def test_patterns(pattern: str, yes: dict[str, str], no: list[str]) -> None:
    made = Pattern(pattern)
    assert {name: made.relative(name) for name in yes} == yes
    assert [name for name in no if made.relative(name) is not None] == []


@given(st.text(st.characters(exclude_characters="/\0"), min_size=1), st.text(max_size=20))
def test_any_pattern_can_be_asked(pattern: str, name: str) -> None:
    Pattern(pattern).relative(name)
    quoted = "".join(f"[{char}]" if char in "*?[" else char for char in pattern)
    if pattern not in (".", "..") and not pattern.startswith(".taskrun-"):
        assert Pattern(quoted).plain == pattern
        assert Pattern(quoted).relative(pattern) == pattern


@given(st.text(st.sampled_from("a./\0"), max_size=8))
def test_what_does_not_escape_stays_below(name: str) -> None:
    if escape(name) is None:
        assert Path("/dest", name).resolve(strict=False).is_relative_to("/dest/")
        assert str(Path("/dest", name)) == f"/dest/{name}"


def test_variables_and_nothing_else_are_replaced() -> None:
    variables = {"TASKRUN_REPEAT_INDEX": "7", "DISBATCH_RANK": "$HOME", "HOME": "/root"}
    assert expand("s3://b/${TASKRUN_REPEAT_INDEX}.bam", variables) == "s3://b/7.bam"
    assert expand("$DISBATCH_RANK/$HOME `x` $(y) $1", variables) == "$HOME/$HOME `x` $(y) $1"
    with pytest.raises(Refused, match="TASKRUN_NONE has no value"):
        expand("$TASKRUN_NONE", variables)


def test_targets() -> None:
    glob, one = parse("s3://bbb/p/*.fa"), parse("s3://bbb/p/x.fa")
    assert target(parse("ref"), glob, "x.fa").path == "ref/x.fa"
    assert target(parse("ref/"), one, "x.fa").path == "ref/x.fa"
    assert target(parse("ref"), one, "x.fa") == ("", "ref")
    assert target(parse("."), one, "x.fa").path == "./x.fa"
    assert target(parse("s3://ccc"), glob, "x.fa").path == "x.fa"
    for name in ("../x", "/x", "a/../../x", "a//b", "", "./x"):
        with pytest.raises(Refused, match="no place under"):
            target(parse("ref/"), glob, name)


def test_plans_are_in_the_order_of_names_and_refuse_collisions() -> None:
    request = Request(1, parse("data/*"), parse("ref/"))
    made = plan(request, [Entry("data/b", 2), Entry("data/a", 1)])
    assert [(str(one.source), str(one.dest), one.size) for one in made] == [("data/a", "ref/a", 1), ("data/b", "ref/b", 2)]


def test_patience_doubles_up_to_a_limit() -> None:
    patience = Patience(5, 1.0, 4.0)
    assert [patience.wait(failed, 0.0) for failed in range(1, 6)] == [1.0, 2.0, 4.0, 4.0, None]
    assert patience.wait(1, 0.999) == pytest.approx(0.5, abs=0.01)


def test_shortage() -> None:
    assert shortage([10, 20], 2.0, 100) == 0
    assert shortage([10, 20], 2.0, 50) == 10
    assert shortage([10], 2.0, None) == 0


def test_the_tally_says_what_is_left() -> None:
    tally = Tally()
    tally.found(2, 1000)
    assert tally.left() is None
    for second in range(5):
        tally.advanced(100, float(second))
    assert tally.rate() == pytest.approx(100)
    assert tally.left() == pytest.approx(5)


def delivery(source: str, dest: str, **more: object) -> Delivery:
    values = {
        "source": source, "dest": dest, "size": 1, "sha256": "a" * 64, "source_size": 1, "source_sha256": "a" * 64, "source_version": "1",
        "dest_version": "1", "verified": "sha256", "how": "moved", "recipients": (), "signer": None, "seconds": 0.1, "tries": 1, **more,
    }  # fmt: skip
    return Delivery(**values)  # type: ignore[arg-type]


def test_deliveries_survive_json_and_nothing_else_does() -> None:
    one = delivery("a\udcff", "s3://b/a", recipients=("X",), signer="Y")
    assert delivery_from_json(json.loads(json.dumps(one.to_json()))) == one
    for wrong in ({}, {"source": 1}, {**one.to_json(), "size": "1"}, {**one.to_json(), "more": 1}, {**one.to_json(), "recipients": 5}):
        assert delivery_from_json(wrong) is None


INPUTS = {
    "ref/clear": delivery("s3://b/clear.gpg", "ref/clear", source_sha256="b" * 64),
    "ref/plain": delivery("s3://b/plain", "ref/plain"),
    "ref/kept.gpg": delivery("s3://b/kept.gpg", "ref/kept.gpg"),
    "ref/changed": delivery("s3://b/changed", "ref/changed", dest_version="0"),
    "ref/before": delivery("s3://b/before", "ref/before", how="identical"),
    "ref/same": delivery("ref/same", "ref/same", how="same"),
    "ref/over": delivery("s3://b/over", "ref/over", replaced="1-2-3"),
}
OUTPUTS = {
    "out/secret": delivery("out/secret", "s3://b/secret.gpg", source_sha256="b" * 64, recipients=("X",)),
    "out/open": delivery("out/open", "s3://b/open"),
    "out/sealed.gpg": delivery("out/sealed.gpg", "s3://b/sealed.gpg"),
    "out/again": delivery("out/again", "s3://b/again", how="identical"),
    "out/here": delivery("out/here", "sftp://host/here", how="identical"),
    "out/grown": delivery("out/grown", "s3://b/grown", source_version="0"),
}
OTHERS = ("tmp/scratch", "out/sealed", "users.txt")
OWN = frozenset({"run_status.txt", "run_manifest.json"})


@pytest.mark.parametrize(
    ("mode", "gone"),
    [
        ("keep", set()),
        ("output", {"ref/clear", "ref/plain", "ref/kept.gpg", "out/secret", "out/open", "out/again", "out/sealed.gpg"}),
        ("encrypted", {"ref/clear", "ref/plain", "out/secret", "out/open", "out/again", "out/sealed", "tmp/scratch"}),
        (
            "all",
            {
                "ref/clear",
                "ref/plain",
                "ref/kept.gpg",
                "out/secret",
                "out/open",
                "out/again",
                "out/sealed.gpg",
                "tmp/scratch",
                "out/sealed",
            },
        ),
    ],
)
def test_cleaning_follows_the_table_and_removes_nothing_unsafe(mode: Mode, gone: set[str]) -> None:
    present = [Present(path, "1") for path in (*INPUTS, *OUTPUTS, *OTHERS, *OWN)]
    made = cleaning.plan(
        mode,
        present,
        INPUTS,
        OUTPUTS,
        made=lambda path: path != "users.txt",
        own=OWN,
        unproven=lambda one: not one.dest.startswith("s3:"),
    )
    assert {one.path for one in made.remove} == gone
    if mode == "all":
        assert {one.path for one in made.kept} == {"ref/changed", "ref/before", "ref/same", "ref/over", "out/here", "out/grown"}


def test_files_settle_before_they_are_shipped() -> None:
    settling = Settling(10.0)
    first, grown = Entry("a", 1, "v1"), Entry("a", 2, "v2")
    assert settling.look([first], 0.0) == []
    assert settling.look([grown], 9.0) == []
    assert settling.look([grown], 18.0) == []
    assert settling.look([grown], 19.0, frozenset({"a"})) == []
    assert settling.look([grown], 20.0) == [grown]
    assert settling.look([grown], 40.0) == []
    settling.failed("a")
    assert settling.look([grown], 41.0) == [grown]
    assert settling.waiting([grown, Entry("b", 1, "v1")]) == [Entry("b", 1, "v1")]
    assert settling.look([grown, Entry("b", 1, "v1")], 41.0, old={"b"}) == [Entry("b", 1, "v1")]


@pytest.mark.parametrize(("error", "kind"), [(PermissionError, Denied), (ConnectionError, Transient)])
def test_a_login_that_is_refused_is_not_tried_again(error: type[OSError], kind: type[Exception]) -> None:
    """Its words stay as they are: there may be the name of a key in them."""

    def connect() -> None:
        raise error("the login of Me was refused: /home/Me/key")

    with pytest.raises(kind, match=r"host:x: .*the login of Me was refused: /home/Me/key"):
        SftpStore("host", connect, "tag").stat("x")


def test_the_manifest_is_read_back(tmp_path: Path) -> None:
    account = manifest.Account(
        "r1", "run", "host", 1.0, 3.5, 0, {"done": 2}, {"cpu_seconds": 1.0}, tuple(INPUTS.values()), tuple(OUTPUTS.values())
    )
    path = tmp_path / "run_manifest.json"
    manifest.write(path, account)
    value = json.loads(path.read_bytes())
    assert (value["v"], value["seconds"], value["inputs"][0]["sha256"]) == (1, 2.5, "a" * 64)
    assert manifest.deliveries(path) == (account.inputs, account.outputs)
    path.write_text("[1]")
    assert manifest.deliveries(path) == ((), ())
    assert manifest.latest([INPUTS["ref/clear"], INPUTS["ref/clear"]._replace(size=9)]) == (INPUTS["ref/clear"]._replace(size=9),)
    with pytest.raises(RecordsFailed, match="nothing was removed"):
        manifest.write(tmp_path / "no" / "folder.json", account)
