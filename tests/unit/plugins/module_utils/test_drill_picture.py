# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a drill: an image by itself that says how the run ended, whatever the journal holds."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_picture import svg
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import read_samples
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_style import PICTURE
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made

NAME = "{http://www.w3.org/2000/svg}"
ELEMENTS = {NAME + name for name in ("svg", "title", "style", "rect", "text", "g", "line", "path")}


def drawn(data: dict[str, Any]) -> str:
    journal = read_journal(json.dumps(data), "journal.json")
    return svg(journal, read_samples(made.samples(stalled=True), journal.evidence))


def words(text: str) -> list[str]:
    return [found.text or "" for found in ET.fromstring(text).iter(f"{NAME}text")]


@pytest.mark.parametrize("data", [made.storage_full(), made.refuted(), made.hostile(made.storage_full())])
def test_it_is_an_image_that_needs_nothing_from_elsewhere(data: dict[str, Any]) -> None:
    text = drawn(data)
    root = ET.fromstring(text)
    names = {element.tag for element in root.iter()}
    assert root.tag == f"{NAME}svg" and names <= ELEMENTS
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not [name for name in attributes if "href" in name or name.startswith("on") or name == "style"]
    assert "url(" not in PICTURE and "@import" not in PICTURE
    assert drawn(data) == text


def test_the_verdict_why_and_what_was_measured_are_on_it() -> None:
    data = made.storage_full()
    said = words(drawn(data))
    assert said[0] == "✓ Passed"
    told = " ".join(said)
    assert data["because"] in told and data["host"]["name"] in told
    assert {"Time to detect", "Time to recover"} <= set(said)


def test_a_long_reason_is_broken_into_lines_and_all_of_it_is_there() -> None:
    data = {**made.storage_full(), "because": "word " * 100 + "end"}
    short, long = drawn(made.storage_full()), drawn(data)
    assert " ".join(words(long)).count("word") == 100
    height = [float(ET.fromstring(text).get("height", "0")) for text in (short, long)]
    assert height[1] > height[0] + 80, "and there is room for them"


def test_what_is_drawn_is_within_it() -> None:
    root = ET.fromstring(drawn(made.storage_full()))
    (inner,) = root.findall(f"{NAME}svg")
    assert float(inner.get("y", "0")) + float(inner.get("height", "0")) < float(root.get("height", "0"))
    (timeline,) = inner.findall(f"{NAME}svg")
    assert (timeline.get("viewBox") or "").split()[3] == f"{float(inner.get('height', '0')):.0f}"


def test_without_a_timeline_the_rest_is_shown() -> None:
    data = made.storage_full()
    text = drawn({**data, "marks": {}, "guests": []})
    assert ET.fromstring(text).findall(f"{NAME}svg") == [] and words(text)[0] == "✓ Passed"


def test_it_has_the_colours_of_the_page_in_light_and_dark() -> None:
    used = {name for text in (drawn(made.storage_full()), PICTURE) for name in re.findall(r"var\((--[\w-]+)\)", text)}
    light, dark = PICTURE.split("prefers-color-scheme:dark")
    for scheme in (light, dark):
        assert used <= set(re.findall(r"(--[\w-]+):", scheme))
