# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a drill's report, and the state that the module ``drill_report`` compares."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from .drill_export import chaostoolkit, junit
from .drill_history import History
from .drill_html import html
from .drill_journal import Journal
from .drill_markdown import markdown
from .drill_picture import svg
from .drill_samples import Samples
from .state import State
from .steps import Failure

FILES = {
    "html": "report.html",
    "markdown": "report.md",
    "svg": "report.svg",
    "junit": "junit.xml",
    "chaostoolkit": "chaostoolkit.json",
}


def render(journal: Journal, samples: Samples, past: History | None, formats: Iterable[str]) -> dict[str, str]:
    """{format: text of its file}. The same input gives the same texts."""
    makers = {
        "html": lambda: html(journal, samples, past),
        "markdown": lambda: markdown(journal, samples, past),
        "svg": lambda: svg(journal, samples),
        "junit": lambda: junit(journal),
        "chaostoolkit": lambda: json.dumps(chaostoolkit(journal), indent=2, ensure_ascii=False) + "\n",
    }
    return {name: makers[name]() for name in formats}


def paths(directory: str, formats: Iterable[str]) -> dict[str, str]:
    """{format: path of its file}."""
    return {name: posixpath.join(directory, FILES[name]) for name in FILES if name in set(formats)}


def beside(journal: str, name: str) -> str:
    """The path of a file that lies beside a journal."""
    return posixpath.join(posixpath.dirname(journal), name)


def told(journal: Journal) -> State:
    """What the module tells of a journal: verdict, because, and the metrics in seconds."""
    metrics = {key: journal.metrics.get(key) for key in journal.measures}
    return {"run": journal.run, "verdict": journal.verdict, "because": journal.because, "metrics": metrics}


def digests(texts: Mapping[str, str | None]) -> State:
    """{"sha256.FORMAT": checksum}, for those that are there."""
    return {
        f"sha256.{name}": sha256(text.encode("utf-8", "replace")).hexdigest()
        for name, text in texts.items()
        if text is not None
    }


def checked(params: Mapping[str, Any]) -> None:
    """Refuse paths of which nobody could say where they lead. Raises Failure."""
    for option, given in [("journal", params["journal"]), ("path", params["path"])]:
        if not given.startswith("/"):
            raise Failure(f"{option} is {given!r}, which depends on the working directory. Give the whole path.")
    if not params["formats"]:
        raise Failure(f"formats is empty, so there is nothing to write. Name one or more of {', '.join(FILES)}.")
