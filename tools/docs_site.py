# SPDX-License-Identifier: GPL-3.0-or-later
"""The site: pages of this tree in the places that they have in it, the reference from the collection's own
documentation, and a look at every link of what came out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / ".build/docs"
SOURCE = PLACE / "source"
SITE = PLACE / "html"
TOOLS = ROOT / ".venv-docs/bin"
# What a reader of the site is led to. Others that exist by then are found in the table of contents, too.
PAGES = ("*.md", "docs/**/*.md", "roles/*/README.md", "tests/README.md", "lab/README.md", "labnode/**/*.md")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")


def build() -> list[str]:
    """Build it anew; what is wrong with it. The tools' own complaints go to the terminal."""
    shutil.rmtree(PLACE / "html", ignore_errors=True)
    shutil.rmtree(SOURCE, ignore_errors=True)
    gather()
    for command in (reference(), sphinx()):
        done = subprocess.run(command, cwd=ROOT, env=environment(), check=False)
        if done.returncode:
            return [f"{command[0].name} failed with status {done.returncode}; what it said is above"]
    return broken_links(SITE)


def gather() -> None:
    """Copy the pages, and what they link to that is none, to where the tools find nothing else."""
    for pattern in PAGES:
        for page in sorted(set(ROOT.glob(pattern)) - set(ROOT.glob("docs/site/*"))):
            for path in (page, *linked(page)):
                target = SOURCE / path.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
    for path in sorted((ROOT / "docs/site").iterdir()):
        shutil.copy2(path, SOURCE / path.name)


def linked(page: Path) -> Iterator[Path]:
    """The files that a page links to, pictures among them."""
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / unquote(link)).resolve()
        if target.is_file() and target.is_relative_to(ROOT):
            yield target


def environment() -> dict[str, str]:
    """Only this tree's collection is seen, and the tools find each other."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {
        **inherited,
        "PATH": f"{TOOLS}:{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build"),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "LC_ALL": "C.UTF-8",
    }


def reference() -> list[Path | str]:
    options = ["--use-current", "--fail-on-error", "--squash-hierarchy", "--dest-dir", SOURCE / "reference"]
    (SOURCE / "reference").mkdir(parents=True)
    return [TOOLS / "antsibull-docs", "collection", *options, "pvelab.proxmox"]


def sphinx() -> list[Path | str]:
    options = ["--fail-on-warning", "--keep-going", "--nitpicky", "--quiet", "-b", "html", "-d", PLACE / "doctrees"]
    return [TOOLS / "sphinx-build", *options, SOURCE, SITE]


class Page(HTMLParser):
    """The links of a page, and the places in it that one can lead to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name in {"href", "src"}):
                self.links.add(value)
            if value and (name == "id" or (tag == "a" and name == "name")):
                self.anchors.add(value)


@cache
def parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text(encoding="utf-8", errors="replace"))
    return page


def broken_links(site: Path) -> list[str]:
    """Links that lead nowhere: to a page, a file or a place in a page that is not there, or that are no address."""
    return [
        f"{path.relative_to(site)}: {link}: {said}"
        for path in sorted(site.rglob("*.html"))
        for link in sorted(parsed(path).links)
        for said in wrong(path, link)
    ]


def wrong(page: Path, link: str) -> Iterator[str]:
    try:
        parts = urlsplit(link)
    except ValueError as error:
        yield str(error)
        return
    if parts.scheme in {"http", "https"}:
        # The network is not asked.
        if not re.fullmatch(r"[\w.-]+(:\d+)?", parts.netloc) or "." not in parts.netloc:
            yield "this is no address"
        return
    if parts.scheme:
        if parts.scheme not in {"mailto", "data"}:
            yield f"what is {parts.scheme}?"
        return
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        yield "there is no such file"
    elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in parsed(target).anchors:
        yield "there is no such place in that page"
