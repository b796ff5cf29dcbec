# SPDX-License-Identifier: GPL-3.0-or-later
"""The time line of a drill's report as a picture of its own, which reads on a light page and on a dark one."""

from __future__ import annotations

import re
from html import escape, unescape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ROOT / "docs/drills"
# Of the report's style, the colours and what is said of drawings; the rest is about pages.
DRAWN = re.compile(
    r"(:root|@media screen and \(prefers-color|--|\}|svg[ {]|\.(ph|lane|answers|mark|flag|axis|grid)\b|path\.)"
)
HEAD = 74


def pictures() -> dict[Path, str]:
    """A picture for each report, by where it belongs."""
    return {path.with_name("timeline.svg"): picture(path) for path in sorted(REPORTS.glob("*/report.html"))}


def picture(report: Path) -> str:
    """The first drawing of a report, under its verdict and its figures."""
    page, text = report.read_text(encoding="utf-8"), report.with_suffix(".md").read_text(encoding="utf-8")
    drawing = re.search(r'<svg viewBox="0 0 (\d+) (\d+)"[^>]*>(.*?)</svg>', page, re.DOTALL)
    assert drawing, f"{report} has no drawing"
    width, height = int(drawing[1]), int(drawing[2])
    style = "\n".join(line for line in style_of(page).splitlines() if DRAWN.match(line))
    title, said = headline(text)
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 {-HEAD} {width + 24} {height + HEAD + 8}" role="img">
<!-- SPDX-License-Identifier: GPL-3.0-or-later; made by `make docs-pages` from {report.name} -->
<style>
{style}
</style>
<rect x="-11" y="{1 - HEAD}" width="{width + 22}" height="{height + HEAD + 6}" class="flag" style="rx:12px"/>
<text x="8" y="{32 - HEAD}" style="font-size:22px;font-weight:700">{escape(title)}</text>
<text x="8" y="{56 - HEAD}" style="font-size:13px">{escape(said)}</text>
{drawing[3]}
</svg>
"""


def style_of(page: str) -> str:
    """A report's style as far as the rules for narrow screens."""
    found = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert found, "a report has a style"
    return unescape(found[1]).split("@media screen and (max-width")[0]


def headline(text: str) -> tuple[str, str]:
    """The verdict, and the figures that come with it."""
    title = re.search(r"^# (.*)$", text, re.MULTILINE)
    writes = re.search(r"^- (Of \d+ acknowledged writes, .*?)\.?$", text, re.MULTILINE)
    assert title and writes, "a report has a title and says what became of the writes"
    metrics = re.findall(r"^\| (Time to detect|Until Proxmox VE shows it|Outage) \| ([^|]+) \|", text, re.MULTILINE)
    figures = [f"{name}: {value}" for name, value in metrics]
    return title[1], " · ".join([*figures, writes[1][0].upper() + writes[1][1:]])
