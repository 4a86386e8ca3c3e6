"""Forms of JSON values from elsewhere, checked once, where they are read: past that nothing need be doubted.

A form is a type; a pattern that a text matches whole; the least and the greatest value of a number (whole, unless the least is a float); a
list of one form, that of its items; a dictionary of forms by key, where a key that ends in ? may be missing or null, "" is for all others,
and others are taken as they come if there is no such key. In any form a number is one that can be reckoned with, and text is what the
system could have given: surrogates only as os.fsdecode makes them, no NUL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

_DEEPEST = 20
_MOST = 1 << 63


def wrong(value: Any, form: Any, where: str = "") -> str:
    """The first place in `value` that is not as its form says, as in `contexts[0].hosts`; '' if there is none."""
    return _wrong(value, form, where, 0) or ""


def _wrong(value: Any, form: Any, where: str, depth: int) -> str | None:
    if depth > _DEEPEST or not _is_sound(value) or not _fits(value, form):
        return where or "{}"
    if isinstance(value, list):
        items = form[0] if isinstance(form, list) else object
        for number, item in enumerate(value):
            found = _wrong(item, items, f"{where}[{number}]", depth + 1)
            if found:
                return found
    elif isinstance(value, dict):
        return _wrong_key(value, form if isinstance(form, dict) else {}, where, depth)
    return None


def _wrong_key(value: dict[str, Any], keys: Mapping[str, Any], where: str, depth: int) -> str | None:
    for key, form in keys.items():
        if key and not key.endswith("?") and key not in value:
            return _below(where, key)
        if key.endswith("?") and value.get(key[:-1]) is not None:
            found = _wrong(value[key[:-1]], form, _below(where, key[:-1]), depth + 1)
            if found:
                return found
    for key, item in value.items():
        if not _is_sound(key):
            return where or "{}"
        if f"{key}?" not in keys:
            found = _wrong(item, keys.get(key, keys.get("", object)), _below(where, key), depth + 1)
            if found:
                return found
    return None


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _fits(value: Any, form: Any) -> bool:
    if isinstance(form, str):
        return isinstance(value, str) and re.fullmatch(form, value, re.DOTALL) is not None
    if isinstance(form, tuple):
        numbers = (int, float) if isinstance(form[0], float) else (int,)
        return isinstance(value, numbers) and not isinstance(value, bool) and form[0] <= value <= form[1]
    return isinstance(value, form if isinstance(form, type) else type(form))


def _is_sound(value: Any) -> bool:
    if isinstance(value, int | float):
        return -_MOST < value < _MOST  # not of NaN
    try:
        return not isinstance(value, str) or b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False
