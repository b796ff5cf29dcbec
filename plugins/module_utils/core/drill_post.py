# SPDX-License-Identifier: GPL-3.0-or-later
"""Where somebody looks at a failure drill from: its file, and how whoever looks is started and ended. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .steps import Failure, Run, Step, Write

# In the directory of a post: what is to be asked, which process asks, what it has seen.
POST, LIFE = "vantage.json", "vantage.process"
BEGIN_S, LEAVE_S = 60.0, 60.0


def file(params: Mapping[str, Any], name: str = POST) -> str:
    """A path in the post's directory."""
    return f"{params['directory'].rstrip('/')}/{name}"


def check(params: Mapping[str, Any]) -> None:
    """Raises Failure where nobody could say what is to be asked, or where."""
    if not params["directory"].startswith("/"):
        raise Failure(f"directory is {params['directory']!r}, which depends on the working directory. Give all of it.")
    if params["state"] == "started" and not params["probes"]:
        raise Failure("probes is empty, so there is nothing to look at. Name what is to answer.")


def start(params: Mapping[str, Any]) -> list[Step]:
    """Have a process look that needs nobody."""
    post = {"name": params["name"], "probes": params["probes"], "ends_s": params["ends_s"]}
    return [
        Run(("install", "-d", "-m", "0755", params["directory"]), label="make a place for what is seen"),
        Write(file(params), json.dumps(post, indent=2) + "\n", label="write what to ask", backup=False),
        Run(_program(params, "vantage"), label="look from here", timeout_s=BEGIN_S),
    ]


def end(params: Mapping[str, Any]) -> list[Step]:
    """Have it look no longer; what it has seen stays."""
    return [Run(_program(params, "leave"), label="look no longer", timeout_s=LEAVE_S)]


def ask(params: Mapping[str, Any]) -> tuple[str, ...]:
    """The command that prints what was seen until now."""
    return _program(params, "seen")


def told(text: str) -> dict[str, Any]:
    """What it has printed. Raises Failure."""
    try:
        found = json.loads(text)
        return {key: found[key] for key in ("name", "mono", "wall", "from", "to", "gaps", "probes", "dates")}
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"what the program says of what was seen is nothing of the kind: {error}.") from error


def _program(params: Mapping[str, Any], verb: str) -> tuple[str, ...]:
    return (params["python"], params["program"], verb, file(params))
