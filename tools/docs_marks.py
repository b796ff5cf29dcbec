# SPDX-License-Identifier: GPL-3.0-or-later
"""The code blocks of the guides and what each is marked with. A block without a mark is an error.

```sh run                      typed by `make docs`, from the top of the tree; it has to succeed
```yaml file=my-lab.yml        saved under that name; a command further down uses it
```text output                 what the block before it prints; … stands for anything
```yaml check: REASON          not run, for that reason; but it is YAML, and its options and values are
```sh as in PAGE               word for word a block that PAGE has run
```python from FILE            word for word a part of a file of this tree
```sh skip: REASON             neither run nor checked, for that reason
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import docs_options
import yaml
from markdown_it import MarkdownIt

ROOT = docs_options.ROOT
GUIDES = ROOT / "docs/guides"
# Beside the guides. Other pages say what a thing is for, and are not typed from.
MORE = ("README.md", "docs/api.md", "docs/inventory.md")
MARK = re.compile(r"(?P<mark>run|output|file=(?P<file>\S+)|(?:check|skip): (?P<why>\S.*)|(?:as in|from) (?P<page>\S+))")
LANGUAGES = {"run": {"sh"}, "output": {"text"}, "check": {"yaml"}, "file": {"yaml", "ini", "json"}, "as": {"sh"}}
FILE = re.compile(r"my-[a-z0-9-]+\.(yml|ini|json)")


@dataclass(frozen=True)
class Snippet:
    """One block. ``kind`` is the mark's first word, ``said`` what comes after it; ``line`` is where it begins."""

    page: Path
    line: int
    language: str
    kind: str
    said: str
    text: str

    @property
    def place(self) -> str:
        return f"{shown(self.page)}:{self.line}"


def shown(page: Path) -> Path:
    """A page as messages name it."""
    return page.relative_to(ROOT) if page.is_relative_to(ROOT) else page


class Unmarked(Exception):
    """A block that says not what is done with it."""


def pages() -> list[Path]:
    """In the order in which they are typed: the quick start sets up what the others use."""
    found = [p for p in sorted(GUIDES.rglob("*.md"))]
    first = GUIDES / "quick-start.md"
    return [first, *(p for p in found if p != first), *(ROOT / name for name in MORE)]


def blocks(page: Path) -> Iterator[tuple[int, str, str]]:
    """Line, what stands behind the fence, and text of each block; nothing stands behind one that is only indented."""
    for token in MarkdownIt("commonmark").parse(page.read_text(encoding="utf-8")):
        if token.type in {"fence", "code_block"} and token.map:
            yield token.map[0] + 1, token.info.strip() if token.type == "fence" else "", token.content


def read(page: Path) -> list[Snippet]:
    """Its blocks. Raises Unmarked with all of those that have no mark, or one that is none."""
    found, wrong = [], []
    for line, info, text in blocks(page):
        language, _, rest = info.partition(" ")
        match = MARK.fullmatch(rest.strip())
        if not match:
            wrong.append(f"{shown(page)}:{line}: `{info}` says not what is done with this block; {HOW}")
            continue
        kind = re.split(r"[=: ]", match["mark"])[0]
        found.append(Snippet(page, line, language, kind, match["file"] or match["why"] or match["page"] or "", text))
    if wrong:
        raise Unmarked("\n".join(wrong))
    return found


HOW = "tools/docs_marks.py lists the marks"


def complaints(of: list[Path]) -> list[str]:
    """All that is wrong with the blocks of pages, as far as that can be seen without running anything."""
    found: list[str] = []
    for page in of:
        try:
            snippets = read(page)
        except Unmarked as error:
            found += str(error).splitlines()
            continue
        found += [
            f"{snippet.place}: {said}" for at, snippet in enumerate(snippets) for said in _wrong(snippets, at, snippet)
        ]
    return found


def _wrong(snippets: list[Snippet], at: int, snippet: Snippet) -> Iterator[str]:
    if snippet.language not in LANGUAGES.get(snippet.kind, {snippet.language}):
        yield f"`{snippet.kind}` is not for {snippet.language}"
    if snippet.kind in {"check", "skip"}:
        yield from _reason(snippet.said)
    if snippet.kind == "output" and (at == 0 or snippets[at - 1].kind != "run"):
        yield "there is no block that is run right before this output"
    if snippet.kind == "as" and snippet.text not in _typed(snippet.page.parent / snippet.said):
        yield f"{snippet.said} runs no such block"
    if snippet.kind == "from" and not quoted(snippet):
        yield f"{snippet.said} has no such part"
    if snippet.kind == "file":
        later = [s.text for s in snippets[at:] if s.kind == "run"]
        if not FILE.fullmatch(snippet.said):
            yield f"{snippet.said}: a saved file is called my-….yml, which git ignores"
        if not any(snippet.said in text for text in later):
            yield f"no command further down uses {snippet.said}"
    if snippet.language == "yaml" and snippet.kind in {"file", "check"}:
        try:
            yield from docs_options.complaints(yaml.load(snippet.text, docs_options.Loader))
        except yaml.YAMLError as error:
            yield f"it is no YAML: {error}"


def quoted(snippet: Snippet) -> bool:
    """Whether a file of the tree has these lines, wherever they stand in their line."""
    path = ROOT / snippet.said
    if not path.is_file():
        return False
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    wanted = [line.strip() for line in snippet.text.strip().splitlines()]
    return any(lines[at : at + len(wanted)] == wanted for at in range(len(lines)))


def _reason(why: str) -> Iterator[str]:
    if len(why.split()) < 3:
        yield f"'{why}' is no reason"
    for path in re.findall(r"\b(?:tests|molecule|tools)/[\w./-]*\w", why):
        if not (ROOT / path).exists():
            yield f"its reason names {path}, which is not there"


def _typed(page: Path) -> list[str]:
    return [snippet.text for snippet in read(page) if snippet.kind == "run"] if page.is_file() else []
