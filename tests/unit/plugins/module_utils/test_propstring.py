# SPDX-License-Identifier: GPL-3.0-or-later
"""The property-string codec and sizes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.propstring import (
    format_size,
    parse,
    parse_bool,
    parse_size,
    render,
)

KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(blacklist_characters=",\n\r", blacklist_categories=("Cs", "Zs", "Cc")), min_size=1)


@given(st.dictionaries(KEYS, VALUES, max_size=6))
def test_parsing_undoes_rendering(values: dict[str, str]) -> None:
    assert parse(render(values)) == values


@given(st.dictionaries(KEYS, st.from_regex(r"[A-Za-z0-9:/.]{1,9}", fullmatch=True), min_size=1, max_size=6))
def test_the_default_key_stands_first_and_bare(values: dict[str, str]) -> None:
    default = sorted(values)[-1]
    text = render(values, default)
    assert text.split(",", maxsplit=1)[0] == values[default]
    assert parse(text, default) == values


def test_order_booleans_and_absent_values() -> None:
    assert render({"b": True, "a": False, "c": None, "z": 3}, order=("z", "b")) == "z=3,b=1,a=0"
    assert parse(" virtio=AA , bridge=vmbr0,,tag=2") == {"virtio": "AA", "bridge": "vmbr0", "tag": "2"}


@pytest.mark.parametrize("text", ["bare", "a=1,bare"])
def test_a_bare_part_needs_a_default_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"'bare' in .* has no name in front of it"):
        parse(text)


def test_what_cannot_be_stored_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' is given twice"):
        parse("a=1,a=2")
    for value in ("x,y", "x\ny"):
        with pytest.raises(ValueError, match="the value of 'a' holds a comma or a line break"):
            render({"a": value})


@given(st.integers(min_value=0, max_value=1 << 60))
def test_sizes_survive_a_round_trip(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [("8G", 8 << 30), ("1.5T", 3 << 39), ("512M", 512 << 20), ("528K", 528 << 10), ("8 GiB", 8 << 30), (42, 42)],
)
def test_spellings_of_a_size(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "8X", "-1G", "0.3", "1,5G", "8GG"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a (size|whole number)"):
        parse_size(text)


def test_the_shortest_exact_size() -> None:
    assert [format_size(n) for n in (0, 1000, 528 << 10, 2560 << 20, 32 << 30, 1 << 40)] == [
        "0",
        "1000",
        "528K",
        "2560M",
        "32G",
        "1T",
    ]


def test_booleans() -> None:
    assert all(parse_bool(t) for t in (1, "1", "yes", "On", True))
    assert not any(parse_bool(t) for t in (0, "0", "no", "OFF", False))
    with pytest.raises(ValueError, match="'maybe' is neither true nor false"):
        parse_bool("maybe")
