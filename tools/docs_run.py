# SPDX-License-Identifier: GPL-3.0-or-later
"""Types what the guides show. All blocks of one page are one shell, so a variable that one sets the next one has.

What it makes is in .build/docs, and the saved files (my-….yml) are taken away again. The embedded node that the quick
start leaves up serves all pages after it, and is taken down in the end, whatever happened.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docs_marks
import docs_options
import yaml
from docs_marks import Snippet

ROOT = docs_marks.ROOT
BIN = Path(sys.executable).parent
PLACE = ROOT / ".build/docs"
BREAK = "\x1e"
PAGE_S = 1800


class Wrong(Exception):
    """A guide shows what is not so."""


def environment() -> dict[str, str]:
    """What a reader has after the quick start's first words, with a lab of its own."""
    dropped = ("PROXMOX_", "ANSIBLE_", "PYTEST_", "MAKE", "LAB_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {
        **inherited,
        "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
        "LAB_STATE": str(PLACE / "lab"),
        "LAB_LOGS": str(PLACE / "logs"),
        "ANSIBLE_NOCOLOR": "1",
        "NO_COLOR": "1",
        "LC_ALL": "C.UTF-8",
    }


def all_pages(names: list[str]) -> list[str]:
    """Run the pages, or those named; what was wrong. The quick start comes first, because it sets up the lab."""
    found: list[str] = []
    with lab():
        for page in docs_marks.pages():
            if not names or page.stem in names or page.name == "quick-start.md":
                found += one_page(page)
    return found + [said for page in docs_marks.pages() for said in syntax(page)]


@contextmanager
def lab() -> Iterator[None]:
    """Nothing of it is left, even where a page left it up."""
    try:
        yield
    finally:
        down = subprocess.run(
            ["make", "--no-print-directory", "demo-down"],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        print(down.stdout.strip(), flush=True)


def one_page(page: Path) -> list[str]:
    """Type one page's blocks; what went wrong, with the place of the block."""
    snippets = docs_marks.read(page)
    typed = [snippet for snippet in snippets if snippet.kind == "run"]
    if not typed:
        return []
    began = time.monotonic()
    try:
        with saved(snippets):
            said = in_shell(typed)
        wrong = [text for snippet in snippets for text in compared(snippets, snippet, said)]
    except Wrong as error:
        wrong = [str(error)]
    state = "FAILED" if wrong else "ok"
    took = f"{len(typed)} block(s), {time.monotonic() - began:.0f} s"
    print("\n".join([f"{state}: {page.relative_to(ROOT)}, {took}", *wrong]), flush=True)
    return wrong


@contextmanager
def saved(snippets: list[Snippet]) -> Iterator[None]:
    """The files of a page, at the top of the tree, where its reader saves them. Raises Wrong where one is there."""
    made: list[Path] = []
    try:
        for snippet in snippets:
            if snippet.kind == "file":
                path = ROOT / snippet.said
                if path.exists() and path not in made:
                    raise Wrong(f"{snippet.place}: {snippet.said} is there already; take it away")
                path.write_text(snippet.text, encoding="utf-8")
                made.append(path)
        yield
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def in_shell(typed: list[Snippet]) -> dict[int, str]:
    """What each block printed, by the line where it stands. Raises Wrong where one fails."""
    script = "\n".join(f"printf '\\036%d\\n' {snippet.line}\n{snippet.text}" for snippet in typed)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as out:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=PAGE_S,
            check=False,
        )
        out.seek(0)
        parts = [part.partition("\n") for part in out.read().split(BREAK)[1:]]
    said = {int(line): text for line, _, text in parts}
    if done.returncode:
        last = max(said)
        place = next(snippet.place for snippet in typed if snippet.line == last)
        raise Wrong(f"{place}: this block failed with status {done.returncode}:\n{said[last][-3000:]}")
    return said


def compared(snippets: list[Snippet], snippet: Snippet, said: dict[int, str]) -> Iterator[str]:
    """Whether each shown line was printed, in this order. Several blanks count as one."""
    if snippet.kind != "output":
        return
    before = snippets[snippets.index(snippet) - 1]
    at, lines = 0, [squeezed(line) for line in said[before.line].splitlines()]
    for wanted in map(squeezed, snippet.text.splitlines()):
        if wanted in {"", "…"}:
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("…")))
        found = next((i for i, line in enumerate(lines[at:], at) if pattern.fullmatch(line)), None)
        if found is None:
            yield f"{snippet.place}: {before.place} did not print '{wanted}', but:\n" + "\n".join(lines[at:][-40:])
            return
        at = found + 1


def squeezed(line: str) -> str:
    return " ".join(line.split())


def syntax(page: Path) -> Iterator[str]:
    """The playbooks of a page that are not run, as Ansible itself takes them."""
    plays = [s for s in docs_marks.read(page) if s.kind == "check"]
    for snippet in plays:
        data = yaml.load(snippet.text, docs_options.Loader)
        if not isinstance(data, list) or not any("hosts" in entry for entry in data):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "play.yml")
            path.write_text(snippet.text, encoding="utf-8")
            command = [BIN / "ansible-playbook", "-i", "inventories/embedded", "--syntax-check", path]
            done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            yield f"{snippet.place}: {done.stderr.strip()[-1500:]}"
