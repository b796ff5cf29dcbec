# SPDX-License-Identifier: GPL-3.0-or-later
"""What a value of a guest's configuration can be: how people write it, how Proxmox VE stores it. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, unquote

from .propstring import format_size, parse_bool, parse_size
from .state import is_cleared

_WORDS = re.compile(r"[\s,;]+")


@dataclass(frozen=True)
class Field:
    """One value. ``name`` is the option's (and its key in the state), ``key`` Proxmox VE's where that is another one.

    ``kind``: str, int, float, bool, text (line breaks allowed), size, mac, words (a list), set (a list whose order
    means nothing), boot, hotplug, ssh. ``sep`` joins words and sets. ``default`` is what the schema says Proxmox VE
    takes where nothing is set; None where it does not say. ``since`` is the first version that knows the field, of
    those from 8.0 on. ``aliases`` are other keys that Proxmox VE stores or stored the same thing under.
    """

    name: str
    kind: str = "str"
    key: str = ""
    choices: tuple[str, ...] = ()
    default: Any = None
    since: str = ""
    sep: str = ";"
    aliases: tuple[str, ...] = ()
    secret: bool = False

    @property
    def stored(self) -> str:
        """The key in Proxmox VE's configuration."""
        return self.key or self.name

    def spec(self) -> dict[str, Any]:
        """The field as an entry of an argument specification."""
        if self.kind in _LISTS:
            spec: dict[str, Any] = {"type": "list", "elements": "str"}
        else:
            spec = {"type": {"text": "str", "size": "str", "mac": "str"}.get(self.kind, self.kind)}
        if self.choices:
            spec["choices"] = list(self.choices)
        if self.secret:
            spec["no_log"] = True
        elif "password" in self.name or "keys" in self.name or self.name in ("key", "pass"):
            spec["no_log"] = False
        return spec

    def canonical(self, value: Any) -> Any:
        """A value as people or Proxmox VE write it → the one form that is compared; cleared values stay cleared.

        Raises ValueError for what is not of the field's kind.
        """
        if is_cleared(value):
            return value
        fold: Callable[[Any], Any] = _CANONICAL[self.kind]
        return fold(value)

    def encode(self, value: Any) -> str | int | float:
        """The canonical value → what Proxmox VE is sent for it. The inverse of ``canonical``."""
        if self.kind == "bool":
            return int(value)
        if self.kind in _LISTS:
            return _LISTS[self.kind](value, self.sep)
        if self.kind == "float":
            return int(value) if value == int(value) else float(value)
        return int(value) if self.kind == "int" else str(value)

    def observed(self, value: Any) -> Any:
        """Like ``canonical``, for what a node shows: text that does not fit is kept as it is, so that it shows."""
        try:
            return self.canonical(value)
        except ValueError:
            return str(value)


def _text(value: Any) -> str:
    return str(value)


def _prose(value: Any) -> str:
    """Proxmox VE adds a line break at the end of a description, and takes any kind of line end."""
    return "\n".join(str(value).splitlines()).rstrip("\n")


def _words(value: Any) -> list[str]:
    parts = _WORDS.split(value) if isinstance(value, str) else [str(v).strip() for v in value]
    return [p for p in parts if p]


def _set(value: Any) -> list[str]:
    return sorted({w.lower() for w in _words(value)})


def _boot(value: Any) -> list[str]:
    """ "order=scsi0;net0" is a list of devices; the old form, letters, is kept as one word ("legacy=cdn")."""
    if not isinstance(value, str):
        return _words(value)
    order = re.search(r"order=([^,]*)", value)
    return _words(order[1]) if order else [value if value.startswith("legacy=") else f"legacy={value}"]


def _hotplug(value: Any) -> list[str]:
    """ "1" is what is hot-pluggable by default, "0" is nothing, which people write as "none"."""
    known = {"1": "disk,network,usb", "0": "none"}
    return _set(known.get(value, value) if isinstance(value, str) else value)


def _ssh(value: Any) -> list[str]:
    """The API wants and shows keys URL-encoded, one a line."""
    lines = unquote(value).splitlines() if isinstance(value, str) else [k for v in value for k in str(v).splitlines()]
    return [line.strip() for line in lines if line.strip()]


def _joined(value: list[str], sep: str) -> str:
    return sep.join(value)


_LISTS: Mapping[str, Callable[[list[str], str], str]] = {
    "words": _joined,
    "set": _joined,
    "boot": lambda value, _sep: value[0] if value[0].startswith("legacy=") else f"order={';'.join(value)}",
    "hotplug": lambda value, _sep: "0" if value == ["none"] else ",".join(value),
    "ssh": lambda value, _sep: quote("\n".join(value), safe=""),
}


def _float(value: Any) -> float:
    return float(value)


def _size(value: Any) -> str:
    return format_size(parse_size(value))


def _mac(value: Any) -> str:
    return str(value).upper().replace("-", ":")


def _int(value: Any) -> int:
    return int(value)


_CANONICAL: Mapping[str, Callable[[Any], Any]] = {
    "str": _text,
    "text": _prose,
    "int": _int,
    "float": _float,
    "bool": parse_bool,
    "size": _size,
    "mac": _mac,
    "words": _words,
    "set": _set,
    "boot": _boot,
    "hotplug": _hotplug,
    "ssh": _ssh,
}


@dataclass(frozen=True)
class Group:
    """Values that Proxmox VE keeps in one property string: ``agent``, ``net0``, ``hostpci3``.

    ``name`` is the option; ``key`` is Proxmox VE's key, for groups with slots ("net0" to "net31") without the number.
    ``lead`` is the field whose key may be left out. ``device``: when nothing is set there is no device, so defaults
    count only where there is one. ``filled``: ``lead`` is sent with its default when only other fields are set.
    """

    name: str
    key: str
    fields: tuple[Field, ...]
    lead: str = ""
    slots: int = 0
    device: bool = False
    filled: bool = False
    since: str = ""
    prefix: str = ""

    def field(self, name: str) -> Field | None:
        """The field of this name, or None."""
        return self._by_name.get(name)

    def by_key(self, key: str) -> Field | None:
        """The field that Proxmox VE calls ``key``, or used to call so."""
        return self._by_key.get(key)

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        return {f.name: f for f in self.fields}

    @cached_property
    def _by_key(self) -> dict[str, Field]:
        # Of two that share a key, the first one has it.
        return {key: f for f in reversed(self.fields) for key in (f.stored, *f.aliases)}

    @property
    def place(self) -> str:
        """Where the group's fields are in the state, without the dot (groups without slots)."""
        return self.prefix or self.name


def slots_of(groups: tuple[Group, ...], slot: str) -> Group | None:
    """The group that a slot such as ``net0`` belongs to, or None where there is no such slot."""
    found = re.fullmatch(r"([a-z]+)(\d+)", slot)
    if not found or slot != f"{found[1]}{int(found[2])}":
        return None
    return next((g for g in groups if g.key == found[1] and int(found[2]) < g.slots), None)
