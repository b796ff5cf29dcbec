# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a drill: well-formed, self-contained, the verdict first, no text is markup, the same each time."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.core import drill_plots, drill_svg
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_history import History, history
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_html import html
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_journal import Journal, read_journal
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_markdown import literal, markdown
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_markup import VOID, Markup, join, tag
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_samples import Samples, read_samples
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.drill_words import VERDICTS
from ansible_collections.pvelab.proxmox.tests.unit import drill_journals as made


def read(data: Any) -> Journal:
    return read_journal(json.dumps(data), "journal.json")


def full() -> tuple[Journal, Samples]:
    journal = read(made.storage_full())
    return journal, read_samples(made.samples(stalled=True), journal.evidence)


def relieved() -> tuple[Journal, Samples]:
    journal = read(made.relieved())
    return journal, read_samples(made.samples(stalled=False), journal.evidence)


def past(newest: Journal) -> History:
    return history(newest, [read(made.storage_full(f"2026110{n}-x")) for n in range(3)])


class Page(HTMLParser):
    """Every tag, attribute and text of a page; ``open`` is empty if each tag was closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style" and data.strip():
            self.texts.append(data)

    def all(self, wanted: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == wanted]


def pages() -> list[Any]:
    journal, samples = full()
    bad = read(made.hostile(made.storage_full()))
    other = read(made.refuted())
    return [
        pytest.param(html(journal, samples, past(journal)), id="passed"),
        pytest.param(html(other, read_samples(made.samples(stalled=True, silent_api=True), ())), id="refuted"),
        pytest.param(html(read(made.aborted()), read_samples(None, ())), id="aborted"),
        pytest.param(html(*relieved()), id="relieved"),
        pytest.param(
            html(bad, read_samples(json.dumps({"at": made.BEGAN, "fill": {made.HOSTILE: 1}}), ())), id="hostile"
        ),
    ]


@pytest.mark.parametrize("text", pages())
def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(text: str) -> None:
    page = Page(text)
    assert page.open == []
    loading = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "video", "audio", "source", "use"}
    assert {name for name, _attributes in page.tags} & loading == set()
    for _name, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "style", "action")]
        assert attributes.get("href", "#").startswith("#")
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", style)
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


@pytest.mark.parametrize("text", pages())
def test_ids_are_unique_and_links_lead_somewhere(text: str) -> None:
    page = Page(text)
    ids = [attributes["id"] for _name, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["href"][1:] for attributes in page.all("a")]
    targets += [attributes["aria-labelledby"] for attributes in page.all("svg")]
    assert targets and set(targets) <= set(ids)


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_verdict_comes_first_and_why_right_after(verdict: str) -> None:
    said = VERDICTS[verdict]
    text = html(read({**made.storage_full(), "verdict": verdict}), Samples())
    shown = Page(text).texts
    body = shown[shown.index(said.headline) :]
    assert shown.index(said.headline) <= 2
    assert body[1] == made.storage_full()["because"]
    lines = markdown(read({**made.storage_full(), "verdict": verdict}), Samples()).splitlines()
    assert lines[0] == f"# {said.sign} {said.headline}: A directory storage fills up"
    assert lines[2] == f"**{literal(made.storage_full()['because'])}**"


def test_hostile_text_stays_text() -> None:
    page = Page(html(read(made.hostile(made.storage_full())), Samples()))
    assert made.HOSTILE in page.texts
    assert page.all("script") == page.all("img") == []


def test_the_page_is_for_light_dark_phones_and_paper() -> None:
    journal, samples = full()
    text = html(journal, samples)
    assert "@media screen and (prefers-color-scheme:dark)" in text
    assert "@media screen and (max-width:40rem)" in text
    assert "@media print" in text
    assert Page(text).all("meta")[2]["content"] == "width=device-width, initial-scale=1"


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(d * 2 for d in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground", "least"),
    [("ink", "page", 7), ("ink", "card", 7), ("soft", "card", 4.5), ("soft", "page", 4.5), ("link", "page", 4.5)]
    + [(tone, f"{tone}-on", 4.5) for tone in ("good", "warn", "bad", "calm")]
    + [(tone, "card", 4.5) for tone in ("good", "warn", "bad")]
    + [("ink", phase, 4.5) for phase in ("inject", "observe", "relieve", "recover", "verify")]
    + [("soft", "relieve", 4.5)]
    + [("told", "outage", 4.5), ("ack", "lane", 3), ("outage", "lane", 3)]
    + [(f"s{n}", "card", 3) for n in range(1, 7)],
)
def test_colours_can_be_told_apart_as_wcag_asks(scheme: int, ink: str, ground: str, least: float) -> None:
    text = html(read(made.aborted()), Samples())
    roots = re.findall(r":root\{[^}]*--page:[^}]*\}", text)
    colours = dict(re.findall(r"--([a-z0-9-]+):(#[0-9a-f]+)", roots[scheme]))
    lighter, darker = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= least


def test_everything_that_was_asked_for_is_on_the_page() -> None:
    journal, samples = full()
    for text in (
        "\n".join(Page(html(journal, samples, past(journal))).texts),
        markdown(journal, samples, past(journal)),
    ):
        plain = text.replace("\\", "").replace("\u00a0", " ")
        for wanted in (
            *("0.9 s", "7.2 s", "3.4 s", "19.2 s"),
            *("Expected: When the storage", "guest 103 is in io-error", "02:15:16.9", "+2.1 s"),
            *("no job runs", "it did not fire", "Nothing was left behind", "restore plan.json 103"),
            *("Freeing space is not enough", "pvelab.proxmox.drill -e drill_name=storage_full --check", "same"),
            journal.evidence[0].sha256 or "",
        ):
            assert wanted in plain, wanted


def test_what_an_operator_did_meanwhile_is_on_the_page_and_only_where_there_was_something() -> None:
    journal, samples = relieved()
    told = "What an operator did meanwhile:"
    for text in ("\n".join(Page(html(journal, samples)).texts), markdown(journal, samples).replace("\\", "")):
        plain = text.replace("\u00a0", " ")
        for wanted in (
            *(told, "echo 10000 > /sys/fs/cgroup/qemu.slice/103.scope/cpu.weight", "With the remedy"),
            *("relieve: what an operator did meanwhile", "Remedy tried", "+11.0 s", "3.6 / 12.0 / 15.5 ms, 60 writes"),
            *("writes of guest 103 are quick again", "4 ms instead of 21 ms", "3.6 ms with the remedy"),
        ):
            assert wanted in plain, wanted
    without = html(*full())
    for unwanted in (told, "With the remedy", "Remedy tried"):
        assert unwanted not in without
    head = markdown(journal, samples)
    (row,) = [line for line in head.splitlines() if line.startswith("| Guest | Before |")]
    assert row == "| Guest | Before | During the fault | With the remedy | After |"
    never = markdown(read(made.cut(made.relieved(), "marks/relief", None)), samples)
    assert "| Remedy tried | never |" in never, "it was meant, and was not come to"
    assert "| Guest | Before | During the fault | After |" in never


def test_missing_samples_are_told_and_leave_no_plots() -> None:
    journal = read(made.storage_full())
    without = read_samples(None, journal.evidence)
    assert "There is no samples.jsonl beside the journal" in html(journal, without)
    assert "There is no samples.jsonl beside the journal" in markdown(journal, without)
    assert len(Page(html(journal, without)).all("svg")) == 2
    assert len(Page(html(*full())).all("svg")) == 8


def test_an_undo_that_was_not_armed_before_is_told() -> None:
    for path, value in [("undo", None), ("undo/armed", None), ("undo/armed", made.INJECT + 1)]:
        text = html(read(made.cut(made.storage_full(), path, value)), Samples())
        assert "without a safety timer that was armed before" in text
    assert "without a safety timer" not in html(*full())


def test_what_was_left_behind_is_listed() -> None:
    journal = read(made.cut(made.storage_full(), "residue/left", ["file /srv/files/pvelab-filler"]))
    assert "1 thing left behind." in html(journal, Samples())
    assert "- file /srv/files/pvelab-filler" in markdown(journal, Samples())


def test_after_a_reboot_nothing_is_drawn() -> None:
    journal = read(made.cut(made.storage_full(), "states/6/began", 12.0))
    text = html(journal, full()[1])
    assert Page(text).all("svg") == []
    assert "clock began anew" in text


@pytest.mark.parametrize("width", [drill_svg.WIDE, drill_svg.NARROW])
def test_labels_of_moments_do_not_overlap_and_stay_inside(width: int) -> None:
    marks = [(float(x), f"moment +{x}.0 s") for x in (0, 3, 5, 9, 60, 200, width - 30, width - 2)]
    placed = drill_svg.labels(marks, width)
    assert len(placed) == len(marks)
    boxes = [(p.row, p.x, p.x + drill_svg.text_width(p.text) + 6) for p in placed]
    assert all(left >= 0 and right <= width for _row, left, right in boxes)
    for i, (row, left, right) in enumerate(boxes):
        assert not [b for b in boxes[i + 1 :] if b[0] == row and b[1] < right and left < b[2]]


def drawing(journal: Journal, samples: Samples, width: int = drill_svg.WIDE) -> ET.Element:
    picture = drill_svg.timeline(journal, samples, width)
    assert picture is not None
    return ET.fromstring(picture)


def of_kind(root: ET.Element, kind: str) -> list[ET.Element]:
    return [element for element in root.iter() if kind in (element.get("class") or "").split()]


def test_the_timeline_draws_outages_where_they_were() -> None:
    journal, samples = full()
    root = drawing(journal, samples)
    (outage,) = of_kind(root, "outage")
    axis = drill_svg.axis_of(journal, samples, drill_svg.WIDE)
    assert axis is not None
    assert float(outage.get("x", "")) == pytest.approx(axis.x(made.EFFECT), abs=0.1)
    assert float(outage.get("width", "")) == pytest.approx(axis.x(made.RESTORED) - axis.x(made.EFFECT), abs=0.1)
    assert [element.text for element in of_kind(root, "told")] == ["19.2 s"]
    assert len(of_kind(root, "lane")) == 4
    assert len(of_kind(root, "mark")) == 7
    assert len(of_kind(root, "halted")) == 1
    assert {"ph-inject", "ph-recover"} <= {c for e in of_kind(root, "ph") for c in (e.get("class") or "").split()}
    (title,) = [element.text or "" for element in root if element.tag == "title"]
    assert "guest 103 (db1), victim: 1 outage, 19.2 s in all" in title
    assert root.get("role") == "img"


def test_the_timeline_has_a_phase_for_what_an_operator_did_meanwhile() -> None:
    journal, samples = relieved()
    root = drawing(journal, samples)
    (phase,) = of_kind(root, "ph-relieve")
    axis = drill_svg.axis_of(journal, samples, drill_svg.WIDE)
    assert axis is not None
    assert float(phase.get("x", "")) == pytest.approx(axis.x(5149.0), abs=0.1)
    assert float(phase.get("width", "")) == pytest.approx(axis.x(made.RECOVER) - axis.x(5149.0), abs=0.1)
    assert "relieve" in [element.text for element in of_kind(root, "phase")]
    assert "remedy +11.0 s" in [element.text for element in of_kind(root, "word")]
    assert len(of_kind(root, "mark")) == 8
    assert of_kind(drawing(*full()), "ph-relieve") == []
    # Its rule in the page's style has a colour in light and one in dark.
    style = html(journal, samples).partition("<style>")[2].partition("</style>")[0]
    assert ".ph-relieve{fill:var(--relieve)}" in style
    assert len(set(re.findall(r"--relieve:(#[0-9a-f]+)", style))) == 2


def test_plots_mark_the_fault_and_the_remedy() -> None:
    for (journal, samples), marks in ((full(), 1), (relieved(), 2)):
        axis = drill_svg.axis_of(journal, samples, drill_svg.WIDE)
        assert axis is not None
        for plot in drill_plots.plots(journal, samples, drill_svg.WIDE):
            assert len(of_kind(ET.fromstring(drill_plots.draw(plot, axis)), "mark")) == marks


def test_ticks_are_where_writes_were_acknowledged() -> None:
    journal, samples = full()
    ticks = of_kind(drawing(journal, samples), "ack")
    victim = [float(x) for x in re.findall(r"M([\d.]+) ", ticks[0].get("d", ""))]
    axis = drill_svg.axis_of(journal, samples, drill_svg.WIDE)
    assert axis is not None
    left, right = axis.x(made.EFFECT), axis.x(made.RESTORED)
    assert victim and not [x for x in victim if left + 3 < x < right - 3]


def test_an_outage_that_did_not_end_goes_to_the_edge() -> None:
    data = made.cut(made.storage_full(), "guests/0/outages/0/to", None)
    root = drawing(read(data), Samples())
    (outage,) = of_kind(root, "outage")
    assert float(outage.get("x", "")) + float(outage.get("width", "")) == pytest.approx(952, abs=0.1)
    assert [element.text for element in of_kind(root, "told")] == ["still out"]


def test_an_api_that_did_not_answer_and_gaps_are_drawn() -> None:
    samples = read_samples(made.samples(stalled=True, silent_api=True), ())
    root = drawing(read(made.refuted()), samples)
    assert len(of_kind(root, "outage")) == 3
    assert len(of_kind(root, "gap")) == 1


def test_a_sample_of_another_boot_does_not_squeeze_the_drawing() -> None:
    journal = read(made.storage_full())
    strange = read_samples('{"at": 3.0}\n{"at": 99999999.0}\n', ())
    assert drill_svg.axis_of(journal, strange, 960) == drill_svg.axis_of(journal, Samples(), 960)


def test_plots_are_of_what_is_in_the_samples() -> None:
    journal, samples = full()
    found = {plot.key: plot for plot in drill_plots.plots(journal, samples, drill_svg.WIDE)}
    assert [name for name, _points in found["pressure"].lines] == ["processor", "memory", "disks"]
    disks = [value for _at, value in found["pressure"].lines[2][1]]
    assert max(disks) == pytest.approx(60, abs=1) and min(disks) == pytest.approx(15, abs=1)
    assert found["memory"].top == 2000
    assert [name for name, _points in found["fill"].lines] == ["/srv/files", "thin fast/data"]
    assert all(len(points) <= drill_svg.WIDE for plot in found.values() for _name, points in plot.lines)
    only = read_samples(
        "".join(json.dumps({"at": made.BEGAN + n, "mem_available_mib": 9}) + "\n" for n in range(9)), ()
    )
    assert [plot.key for plot in drill_plots.plots(journal, only, drill_svg.WIDE)] == ["memory"]


def test_of_many_fill_levels_the_fullest_are_shown() -> None:
    levels = {f"pool {n}": float(n) for n in range(9)}
    text = "".join(json.dumps({"at": made.BEGAN + n, "fill": levels}) + "\n" for n in range(9))
    (plot,) = drill_plots.plots(read(made.storage_full()), read_samples(text, ()), drill_svg.NARROW)
    assert [name for name, _points in plot.lines] == [f"pool {n}" for n in range(3, 9)]
    assert "The 6 fullest of 9 are shown." in plot.says


def test_a_line_is_broken_where_samples_are_missing() -> None:
    journal = read(made.storage_full())
    times = [made.BEGAN + n / 10 for n in (*range(50), *range(200, 250))]
    text = "".join(json.dumps({"at": at, "mem_available_mib": 900}) + "\n" for at in times)
    samples = read_samples(text, ())
    axis = drill_svg.axis_of(journal, samples, drill_svg.WIDE)
    assert axis is not None
    (plot,) = drill_plots.plots(journal, samples, drill_svg.WIDE)
    (line,) = of_kind(ET.fromstring(drill_plots.draw(plot, axis)), "line")[1:]
    assert line.get("d", "").count("M") == 2


def test_markup_escapes_what_is_not_markup() -> None:
    assert tag("p", "a < b", Markup("<b>c</b>"), title='"', data_x=None) == '<p title="&quot;">a &lt; b<b>c</b></p>'
    assert join("&", Markup("&amp;")) == "&amp;&amp;"
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8">'
