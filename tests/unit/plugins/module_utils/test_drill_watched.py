# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drill's report says of guest_watch: when it told, that it said nothing, or that it was not there."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_svg
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_export import chaostoolkit, junit
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_history import history
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_html import html
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import Journal, read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_markdown import markdown
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_measured import measured
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_render import told
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import Samples
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_words import metric
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made

UNWATCHED = "nobody would have been told: the role guest_watch installs a watch"
MEASURE = "Until guest_watch told"


def read(data: Any) -> Journal:
    return read_journal(json.dumps(data), "journal.json")


def plain(journal: Journal) -> tuple[str, str]:
    """Both reports, as people read them."""
    page = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html(journal, Samples()), flags=re.DOTALL)
    return page.replace("\u00a0", " "), markdown(journal, Samples()).replace("\\", "")


@pytest.mark.parametrize(
    ("seconds", "blind", "says"),
    [
        (3.4, None, "guest_watch told after 3.4 s; the API of Proxmox VE showed nothing."),
        (3.4, 7.2, "guest_watch told after 3.4 s; the API of Proxmox VE showed it after 7.2 s."),
        (-2.0, 7.2, "guest_watch told 2.0 s before the first effect; the API of Proxmox VE showed it after 7.2 s."),
        (0.0, -0.4, "guest_watch told after 0.0 s; the API of Proxmox VE showed it 0.4 s before the first effect."),
        (None, 7.2, "guest_watch said nothing in the 15.8 s until the repair began; the API of Proxmox VE showed it"),
        (None, None, "guest_watch said nothing in the 15.8 s until the repair began; the API of Proxmox VE showed not"),
    ],
)
def test_it_is_compared_with_the_api(seconds: float | None, blind: float | None, says: str) -> None:
    journal = read(made.cut(made.watched(seconds), "metrics/blind_s", blind))
    assert [text[: len(says)] for text in measured(journal) if "guest_watch" in text] == [says]
    for text in plain(journal):
        assert says in text


def test_a_drill_without_guests_compares_it_too() -> None:
    for text in plain(read(made.cut(made.watched(3.4), "guests", []))):
        assert "guest_watch told after 3.4 s" in text


@pytest.mark.parametrize(("seconds", "says"), [(3.4, "3.4 s"), (None, "said nothing")])
def test_where_it_was_there_the_report_measures_it(seconds: float | None, says: str) -> None:
    journal = read(made.watched(seconds))
    assert metric(journal, "watch_s") == says
    page, text = plain(journal)
    assert re.search(rf"{MEASURE}\s+{says}\s+from the first effect until guest_watch raised an alert", page)
    assert f"| {MEASURE} | {says} | from the first effect until guest_watch raised an alert |" in text
    moment = "| Told by guest_watch | +5.5 s | 02:15:20.3 |" if seconds else "| Told by guest_watch | never |"
    assert moment in text
    assert UNWATCHED not in page + text
    suite = ET.fromstring(junit(journal))
    properties = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert properties.get("watch_s") == (None if seconds is None else "3.4")
    (out,) = suite.iter("system-out")
    assert f"{MEASURE}: {says}" in (out.text or "")
    assert chaostoolkit(journal)["pvelab"]["metrics"]["watch_s"] == seconds
    assert told(journal)["metrics"]["watch_s"] == seconds


def test_where_it_was_not_there_nothing_is_measured_and_it_is_to_be_learned() -> None:
    journal = read(made.storage_full())
    for text in plain(journal):
        assert MEASURE not in text
        assert "Told by guest_watch" not in text
        learn = text.partition("What to learn from it")[2]
        assert text.count(UNWATCHED) == learn.count(UNWATCHED)
        assert UNWATCHED in learn
    assert not [text for text in measured(journal) if "guest_watch" in text]
    assert MEASURE not in junit(journal)
    assert set(told(journal)["metrics"]) == {"time_to_detect_s", "blind_s", "time_to_recover_s", "outage_s"}


@pytest.mark.parametrize(
    "data", [made.aborted(), made.cut(made.storage_full(), "marks/effect", None)], ids=["not begun", "no effect"]
)
def test_where_nothing_broke_nobody_was_to_be_told(data: Any) -> None:
    for text in plain(read(data)):
        assert "guest_watch" not in text


def test_what_it_said_without_an_effect_is_not_called_nothing() -> None:
    data = made.cut(made.cut(made.watched(3.4), "marks/effect", None), "metrics/watch_s", None)
    journal = read(data)
    assert metric(journal, "watch_s") == "not known"
    for text in plain(journal):
        assert "said nothing" not in text


def test_the_timeline_marks_it_only_where_it_told() -> None:
    for data, labels in ((made.watched(3.4), 1), (made.watched(None), 0), (made.storage_full(), 0)):
        drawn = drill_svg.timeline(read(data), Samples(), drill_svg.WIDE)
        assert drawn is not None
        assert drawn.count("told +5.5 s") == labels


def test_runs_with_it_are_compared_with_runs_that_had_it() -> None:
    with_it = [read(made.watched(seconds, f"2026110{n}-x")) for n, seconds in enumerate((4.0, 5.0, 6.0))]
    without = [read(made.storage_full(f"2026100{n}-x")) for n in range(3)]
    found = {spread.metric: spread for spread in history(read(made.watched(3.4)), [*without, *with_it]).spreads}
    spread = found["watch_s"]
    assert (spread.newest, spread.n, spread.lowest, spread.highest, spread.judged) == (3.4, 3, 4.0, 6.0, "better")
    newest = history(read(made.storage_full("20261201-x")), with_it).spreads
    assert "watch_s" not in [spread.metric for spread in newest]
