# SPDX-License-Identifier: GPL-3.0-or-later
"""A failure drill that is to be started: whether its plan can be, how that is done, and what is told of it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .steps import Failure, Run, Step, Write

PYTHON = "/usr/bin/python3"
# Who holds the runner and the way back.
SUPERVISORS = ("systemd", "process")
# Where a runner without systemd says which processes it is: an id and when it began, a line each.
RUNNER = "runner.process"
# A plan is shown and kept in the clear, so what opens the node's API lies in a file of its own.
_API = ("url", "token_file", "fingerprints", "ca_file")
# Both may go into a unit of systemd, which has characters of its own.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
_PATH = re.compile(r"/[\w./-]+", re.ASCII)


def unit(run: str) -> str:
    """The service in which a run runs."""
    return f"pvelab-drill-{run}.service"


def is_service(plan: Mapping[str, Any]) -> bool:
    """Whether it runs as a service of systemd, and not in processes of its own."""
    return (plan.get("supervisor") or "systemd") == "systemd"


def keeper(plan: Mapping[str, Any]) -> str:
    """What it runs in: a service, or the file that names its processes."""
    return unit(str(plan["run"])) if is_service(plan) else f"{home(plan)}/{RUNNER}"


def python(plan: Mapping[str, Any]) -> str:
    """What runs the program."""
    return str(plan.get("python") or PYTHON)


def home(plan: Mapping[str, Any]) -> str:
    """The directory of a run."""
    return f"{str(plan['directory']).rstrip('/')}/{plan['run']}"


def check(plan: Mapping[str, Any], program: str) -> None:
    """Raises Failure where a plan has no place to go to, or holds a secret; the program looks at the rest."""
    if not _NAME.fullmatch(str(plan.get("run", ""))):
        raise Failure("the plan's run has to be a name of letters, digits, dots, dashes and underscores.")
    for name, path in (("the plan's directory", plan.get("directory", "")), ("program", program)):
        if is_service(plan) and not _PATH.fullmatch(str(path)):
            raise Failure(f"{name} has to be an absolute path of letters, digits, dots, dashes and underscores.")
        if not str(path).startswith("/"):
            raise Failure(f"{name} has to be an absolute path.")
    unknown = sorted(set(plan.get("api") or {}) - set(_API))
    if unknown:
        raise Failure(
            f"the plan's api has {', '.join(unknown)}, and a plan is no place for secrets: put the token into a file"
            " that only root reads, and name it as token_file."
        )


def start(plan: Mapping[str, Any], program: str) -> list[Step]:
    """Write the plan, and have the host run it, so that nobody's connection is needed any more."""
    here = home(plan)
    file = f"{here}/plan.json"
    return [
        Run(("install", "-d", "-m", "0700", here), label="make a place for what it writes"),
        Write(file, json.dumps(plan, indent=2) + "\n", label="write the plan", mode=0o600, backup=False),
        Run((python(plan), program, "begin", file), label="begin"),
    ]


def foreseen(text: str) -> dict[str, Any]:
    """What ``look`` of the program has said. Raises Failure."""
    data = _json(text, "what the program says of the plan")
    would = "run"
    if data.get("refused"):
        would = f"be refused: {data['refused']}"
    if data.get("skipped"):
        would = f"be skipped: {data['skipped']}"
    return {"would": would, **_told(data), "signs": list(data.get("signs", ()))}


def recorded(text: str) -> dict[str, Any]:
    """The same of a run that has begun before, from its journal. Raises Failure."""
    data = _json(text, "its journal")
    signs = [row["name"] for row in data.get("signature", ())]
    return {"would": "be left as it is, because it has begun before", **_told(data.get("plan", {})), "signs": signs}


def _told(data: Mapping[str, Any]) -> dict[str, Any]:
    lines = {key: str(data.get(key, "")).splitlines() for key in ("inject", "relief", "undo")}
    return {"targets": list(data.get("targets", ())), **lines}


def _json(text: str, what: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Failure(f"{what} is no JSON: {error}.") from error
    if not isinstance(data, dict):
        raise Failure(f"{what} is no JSON object.")
    return data
