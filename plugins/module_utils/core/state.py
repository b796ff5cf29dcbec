# SPDX-License-Identifier: GPL-3.0-or-later
"""The flat form of a state: nesting, clearing, masking and showing it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any

from .steps import MASK

State = dict[str, Any]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> State:
    """{"net0": {"bridge": "vmbr0"}} → {"net0.bridge": "vmbr0"}; lists stay values."""
    flat: State = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of ``flatten``. A plain value beside dotted keys of the same name is kept under ``value``."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        level = tree
        for parent in parents:
            inner = level.get(parent)
            if not isinstance(inner, dict):
                inner = level[parent] = {} if inner is None else {"value": inner}
            level = inner
        if isinstance(level.get(leaf), dict) and not isinstance(value, dict):
            level[leaf]["value"] = value
        else:
            level[leaf] = value
    return tree


def is_cleared(value: Any) -> bool:
    """True for what counts as nothing: None, "", [] and {} (but not 0 or False)."""
    return value is None or (not value and isinstance(value, (str, list, tuple, dict)))


def matches(key: str, patterns: Iterable[str]) -> bool:
    """True when one of the shell-style patterns ("net*.macaddr") fits the key."""
    return _fits(key, frozenset(patterns))


@lru_cache(maxsize=4096)
def _fits(key: str, patterns: frozenset[str]) -> bool:
    return any(fnmatchcase(key, p) for p in patterns)


def public(state: State | None, secret: Iterable[str]) -> dict[str, Any] | None:
    """The state as a result shows it: nested, with secrets masked."""
    return None if state is None else unflatten(masked(state, secret))


def masked(state: Mapping[str, Any], secret: Iterable[str]) -> State:
    """The same flat state with the values of secret keys replaced, so that set and not set still differ."""
    hidden = tuple(secret)
    return {k: MASK if matches(k, hidden) and not is_cleared(v) else v for k, v in state.items()}


def render_diff(called: str, before: State, after: State, secret: Iterable[str]) -> dict[str, Any]:
    """Two flat states as Ansible's ``diff``: nested, secrets masked, cleared keys left out."""
    present = [{k: v for k, v in masked(side, secret).items() if not is_cleared(v)} for side in (before, after)]
    return {
        "before_header": called,
        "after_header": called,
        "before": unflatten(present[0]),
        "after": unflatten(present[1]),
    }
