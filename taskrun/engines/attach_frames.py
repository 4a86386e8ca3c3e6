"""What a run and who attaches to it say to each other, made sure of.

A control frame becomes a message of known types and ranges, or it is Bad. Who attaches has the secret, and may be broken or hostile all the
same. Pure functions.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from taskrun.engines.frames import sentence

PROTOCOL = 2
LABEL_MOST = 64  # characters
HOSTS_MOST = 10_000  # of one context
SLOTS_MOST = 65_536  # of one engine
ENV_MOST = 1 << 20  # characters of all variables together
LIMIT_MOST = 10**12
NAME_MOST = 1000  # characters of what is to be sent away
_CHANNELS = 2**31

#: What somebody may do who knows a secret: offer engines, or also look at the run and send engines away.
Role: TypeAlias = Literal["join", "control"]

_HOST = re.compile(r"[^\s@/,\[\]-][^\s@/,\[\]]{0,252}")
_ADDRESS = re.compile(r"[^\s/,\[\]-][^\s/,\[\]]{0,400}")
_HEX = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r"[^=\0]{1,1000}")

#: What may be said of what slots share (agent/share.py), and whether it can be that.
_SHARES: dict[str, Callable[[Any], bool]] = {
    "cores": lambda value: type(value) is int and 0 <= value < 1 << 31,
    "cores_per_task": lambda value: type(value) is int and 0 <= value < 1 << 31,
    "gpus": lambda value: value in ("", "auto", "all"),
    "gpus_each": lambda value: type(value) is int and 0 <= value < 1 << 31,
    "variables": lambda value: isinstance(value, list) and len(value) <= 1000 and all(map(_is_variable, value)),
}


def _is_variable(name: Any) -> bool:
    return isinstance(name, str) and _VARIABLE.fullmatch(name) is not None


class Bad(Exception):
    """It does not speak as agreed."""


class Hello(NamedTuple):
    """The first words of who attaches."""

    protocol: int
    role: Role
    nonce: str


class Greeting(NamedTuple):
    """The run's first words."""

    nonce: str
    run: str


class Prove(NamedTuple):
    """That the other side knows the secret."""

    proof: str


class Proven(NamedTuple):
    """The run knows the secret, too, and says what a context starts from."""

    proof: str
    cpus_per_task: float  # -1.0: not given
    tasks_per_node: int  # -1: not given
    variables: list[str]  # that are split over slots (-E)
    silence: float  # seconds of silence after which either side gives the other up


class Offer(NamedTuple):
    """One engine of a context."""

    address: str
    host: str
    cores: int
    slots: int
    cores_per_task: int
    share: dict[str, Any]  # see agent/share.py
    env: dict[str, str]  # of its tasks alone


class Join(NamedTuple):
    label: str  # '' for one that the run chooses
    limit: int
    ends_in: float  # seconds until the system ends it, -1.0 if it does not
    offers: list[Offer]
    workdir: str
    env: dict[str, str]  # of its tasks on all engines
    user: int = -1  # id of the user that attaches, where it does; -1 is not known
    space: str = ""  # where the name that it holds can be seen (driver/held.py), '' is not known


class Ends(NamedTuple):
    """The system has changed its mind about when it ends the context."""

    ends_in: float  # seconds from now


class Joined(NamedTuple):
    context: str


class Start(NamedTuple):
    """The run wants an agent on one of the hosts, on a new channel."""

    channel: int
    address: str


class Serve(NamedTuple):
    """The run wants a session with one of the hosts, for data, on a new channel. It has ended when either side ends the channel."""

    channel: int
    address: str
    what: str  # one of streams.RELAYED, or it is refused


class Kill(NamedTuple):
    channel: int


class Failed(NamedTuple):
    """The link of an agent, or a session, has ended, and what is known about it."""

    channel: int
    why: str
    permanent: bool
    lives_on: bool
    died: bool = False


class Ended(NamedTuple):
    """Nothing of an agent is left with who started it."""

    channel: int


class Detach(NamedTuple):
    """An engine or a context by its name; '' for all that this connection has joined."""

    name: str
    now: bool


class Look(NamedTuple):
    """How is the run?"""


class Seen(NamedTuple):
    """So it is."""

    picture: dict[str, Any]


class Done(NamedTuple):
    """What was asked for is done: a sentence."""

    text: str


class Refusal(NamedTuple):
    why: str


class Over(NamedTuple):
    """The context has nothing more to do. `code`: what who attached it exits with."""

    why: str
    code: int


class Beat(NamedTuple):
    """A sign of life."""


Message: TypeAlias = (
    Hello
    | Greeting
    | Prove
    | Proven
    | Join
    | Ends
    | Joined
    | Start
    | Serve
    | Kill
    | Failed
    | Ended
    | Detach
    | Look
    | Seen
    | Done
    | Refusal
    | Over
    | Beat
)


def proof(secret: str, side: Literal["run", "guest"], role: str, fingerprint: str, run: str, nonces: tuple[str, str]) -> str:
    """That one side knows the secret, for this connection alone. `nonces`: the run's, the guest's; `run`: its id."""
    text = "\0".join(("taskrun attach", str(PROTOCOL), side, role, fingerprint, run, *nonces))
    return hmac.new(secret.encode(), text.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()


def frame_of(message: Message) -> dict[str, Any]:
    """As it goes over the wire."""
    fields = message._asdict()
    if isinstance(message, Join):
        fields["offers"] = [list(each) for each in message.offers]
    return {"k": type(message).__name__.lower(), **fields}


def message_of(frame: dict[str, Any], *kinds: type) -> Message:
    """What a control frame says, if that is one of `kinds`. Raises Bad."""
    for kind in kinds:
        if kind.__name__.lower() == frame["k"]:
            return _MAKE[kind](frame)
    raise Bad(f"`{sentence(frame['k'])}` at a wrong time")


# --- one maker for each kind


def _hello(frame: dict[str, Any]) -> Hello:
    role = frame.get("role")
    if role not in ("join", "control"):
        raise Bad("`hello` has no role")
    return Hello(_whole(frame, "protocol", 1 << 31), role, _matching(frame, "nonce", _HEX))


def _proven(frame: dict[str, Any]) -> Proven:
    variables = frame.get("variables")
    if not isinstance(variables, list) or not all(isinstance(name, str) for name in variables):
        raise Bad("`proven` has no variables")
    return Proven(
        _matching(frame, "proof", _HEX),
        _number(frame, "cpus_per_task", -1.0),
        _whole(frame, "tasks_per_node", 1 << 31, -1),
        variables,
        _number(frame, "silence", 0.0),
    )


def _join(frame: dict[str, Any]) -> Join:
    rows = frame.get("offers")
    if not isinstance(rows, list) or not 0 < len(rows) <= HOSTS_MOST:
        raise Bad("`join` offers no number of engines that it can")
    offers = [_offer(row) for row in rows]
    if len({each.address for each in offers}) < len(offers):
        raise Bad("`join` offers a host twice")
    label = _text(frame, "label", LABEL_MOST)
    if not label.isprintable() or "/" in label:
        raise Bad("`join` has a label that cannot be shown")
    workdir = _text(frame, "workdir", 4096)
    user = _whole({"user": -1, **frame}, "user", 1 << 32, -1)  # an older version does not say
    space = _text({"space": "", **frame}, "space", 64)
    env = _variables(frame.get("env"))
    return Join(label, _whole(frame, "limit", LIMIT_MOST), _number(frame, "ends_in", -1.0), offers, workdir, env, user, space)


def _offer(row: Any) -> Offer:
    if not isinstance(row, list) or len(row) != len(Offer._fields):
        raise Bad("`join` offers what is no engine")
    address, host, cores, slots, each, share, env = row
    if not (
        isinstance(address, str)
        and isinstance(host, str)
        and type(cores) is type(slots) is type(each) is int
        and _ADDRESS.fullmatch(address)
        and _HOST.fullmatch(host)
        and address.isprintable()
        and host.isprintable()
        and host not in (".", "..")
        and 0 < cores < 1 << 31
        and 0 < slots <= SLOTS_MOST
        and 0 <= each <= cores
    ):
        raise Bad(f"`join` offers what is no engine: {sentence(repr(row[:5])[:200])}")
    return Offer(address, host, cores, slots, each, _share(share), _variables(env))


def _share(share: Any) -> dict[str, Any]:
    """It goes on to the agent as it is."""
    if not isinstance(share, dict) or not share.keys() <= _SHARES.keys() or not all(_SHARES[name](value) for name, value in share.items()):
        raise Bad("`join` has a share that cannot be")
    return share


def _variables(env: Any) -> dict[str, str]:
    if not isinstance(env, dict) or not all(
        isinstance(value, str) and "\0" not in value and _is_variable(name) for name, value in env.items()
    ):
        raise Bad("`join` has variables that cannot be")
    if sum(len(name) + len(value) for name, value in env.items()) > ENV_MOST:
        raise Bad("`join` has too many variables")
    return env


def _serve(frame: dict[str, Any]) -> Serve:
    return Serve(_whole(frame, "channel", _CHANNELS), _text(frame, "address", 1000), _text(frame, "what", 100))


def _failed(frame: dict[str, Any]) -> Failed:
    why = sentence(_text(frame, "why", 4096))
    died = _flag({"died": False, **frame}, "died")  # an older version does not say
    return Failed(_whole(frame, "channel", _CHANNELS), why, _flag(frame, "permanent"), _flag(frame, "lives_on"), died)


def _seen(frame: dict[str, Any]) -> Seen:
    picture = frame.get("picture")
    if not isinstance(picture, dict):
        raise Bad("`seen` shows nothing")
    return Seen(picture)


_MAKE: dict[type, Callable[[dict[str, Any]], Message]] = {
    Hello: _hello,
    Greeting: lambda frame: Greeting(_matching(frame, "nonce", _HEX), _text(frame, "run", 200)),
    Prove: lambda frame: Prove(_matching(frame, "proof", _HEX)),
    Proven: _proven,
    Join: _join,
    Ends: lambda frame: Ends(_number(frame, "ends_in", 0.0)),
    Joined: lambda frame: Joined(_text(frame, "context", 200)),
    Start: lambda frame: Start(_whole(frame, "channel", _CHANNELS), _text(frame, "address", 1000)),
    Serve: _serve,
    Kill: lambda frame: Kill(_whole(frame, "channel", _CHANNELS)),
    Failed: _failed,
    Ended: lambda frame: Ended(_whole(frame, "channel", _CHANNELS)),
    Detach: lambda frame: Detach(_text(frame, "name", NAME_MOST), _flag(frame, "now")),
    Look: lambda _: Look(),
    Seen: _seen,
    Done: lambda frame: Done(sentence(_text(frame, "text", 4096))),
    Refusal: lambda frame: Refusal(sentence(_text(frame, "why", 4096))),
    Over: lambda frame: Over(sentence(_text(frame, "why", 4096)), _whole(frame, "code", 256)),
    Beat: lambda _: Beat(),
}


def _text(frame: dict[str, Any], name: str, most: int) -> str:
    value = frame.get(name)
    if not isinstance(value, str) or len(value) > most or "\0" in value:
        raise Bad(f"`{frame['k']}` has no text `{name}` that it can have")
    return value


def _matching(frame: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = frame.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise Bad(f"`{frame['k']}` has no `{name}` that it can have")
    return value


def _whole(frame: dict[str, Any], name: str, most: int, least: int = 0) -> int:
    value = frame.get(name)
    if type(value) is not int or not least <= value < most:
        raise Bad(f"`{frame['k']}` has no number `{name}` that it can have")
    return value


def _number(frame: dict[str, Any], name: str, least: float) -> float:
    value = frame.get(name)
    if type(value) not in (int, float) or not least <= value < 1e9:  # type: ignore[operator]
        raise Bad(f"`{frame['k']}` has no number `{name}` that it can have")
    return float(value)  # type: ignore[arg-type]


def _flag(frame: dict[str, Any], name: str) -> bool:
    value = frame.get(name)
    if not isinstance(value, bool):
        raise Bad(f"`{frame['k']}` does not say `{name}`")
    return value
