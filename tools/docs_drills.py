# SPDX-License-Identifier: GPL-3.0-or-later
"""A page for each drill of the catalogue, and one that lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import docs_faults
import yaml
from ansible.module_utils.common.yaml import yaml_load

ROOT = docs_faults.ROOT
FOLDER = ROOT / "docs/guides/drills"
CATALOG = "roles/drill/vars/main/catalog.yml"
MADE = f"""\
<!-- SPDX-License-Identifier: GPL-3.0-or-later -->
<!-- Made by `make docs-pages` from {CATALOG}. Change that, not this page. -->
"""
TOUCHES = {
    "file": "Files that are made for it. No guest is touched.",
    "guest": "Its victims alone. Every other guest is to notice nothing, and is watched for that.",
    "storage": "Every guest whose disk lies on that storage, so all that run on the node have to be listed.",
    "bridge": "Every guest on that bridge, so all that run on the node have to be listed.",
    "host": "The whole node, so all guests that run on it have to be listed.",
    "node-reboot": "The whole node goes down with all of its guests, so all of them have to be listed.",
}
# Above the usual ceiling (roles/drill/defaults/main.yml).
ABOVE = ("bridge", "host", "node-reboot")
TARGETS = (
    ("lab", ROOT / "inventories/lab/group_vars/hypervisors/lab.yml"),
    ("embedded", ROOT / "inventories/embedded/group_vars/embedded/drills.yml"),
)


@cache
def catalog() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml_load((ROOT / CATALOG).read_text(encoding="utf-8"))["_drill_catalog"]
    return found


@cache
def settings(inventory: str) -> dict[str, Any]:
    """What one of the inventories of this tree says of drills."""
    found: dict[str, Any] = yaml_load(dict(TARGETS)[inventory].read_text(encoding="utf-8"))
    return found


def targets(inventory: str) -> dict[str, Any]:
    """What each drill hits there."""
    found: dict[str, Any] = settings(inventory)["drill_targets"]
    return found


def pages() -> dict[Path, str]:
    """The text of every page, by where it belongs."""
    return {FOLDER / "README.md": index(), **{FOLDER / f"{name}.md": page(name) for name in catalog()}}


def index() -> str:
    rows = [
        f"| [`{name}`]({name}.md) | {drill['title']} | {drill['blast_radius']} | {'yes' if runs_here(name) else ''} "
        f"| {f'[yes](../../drills/{name}/report.md)' if report(name) else ''} |"
        for name, drill in catalog().items()
    ]
    head = f"""{MADE}# The drills

Each breaks one thing on purpose, measures what happens, puts it back, and proves that it is back. What they have in
common stands in the role [drill](../../../roles/drill/README.md); how to read what comes out of one in
[reading a report](../reading-a-report.md); how to add one in [writing a drill](../writing-a-drill.md).

The class says what a drill can harm if all goes wrong, from the smallest to the greatest: {", ".join(TOUCHES)}. The
embedded node of `make demo` can be broken by some of them without root; every one has a target on the lab machine.

| Drill | What happens | Class | On the embedded node | Report of a real run |
|---|---|---|---|---|
"""
    return head + "\n".join(rows) + "\n"


def runs_here(name: str) -> bool:
    """Whether the embedded node can have it. Without a control group for each guest it is only ever skipped there."""
    return name in targets("embedded") and name not in {"guest_out_of_memory", "guest_starved"}


def report(name: str) -> Path | None:
    found = ROOT / f"docs/drills/{name}/report.md"
    return found if found.exists() else None


def page(name: str) -> str:
    drill = catalog()[name]
    parts = [
        f"{MADE}# {name}\n\n**{drill['title']}.** {docs_faults.fault(drill['kind']).says}",
        f"## What is thought to happen\n\n{drill['hypothesis']}",
        f"## What it may touch\n\n{touches(drill)}",
        f"## The way back\n\n{way_back(drill)}",
        f"## What has to be so before\n\n{before()}",
        f"## Run it\n\n{run(name)}",
        f"## Read its result\n\n{result(name)}",
        "## What there is to learn\n\n" + "\n".join(f"- {learned}" for learned in drill["learn"]),
    ]
    return "\n\n".join(parts) + "\n"


def touches(drill: dict[str, Any]) -> str:
    fault = docs_faults.fault(drill["kind"])
    said = [f"Class `{drill['blast_radius']}`. {TOUCHES[drill['blast_radius']]}"]
    if drill["blast_radius"] in ABOVE:
        said.append("It is above the usual `drill_ceiling`, so `drill_confirm` has to name the node.")
    if fault.needs:
        said.append(f"It needs to be told {listed(fault.needs)} in `options`.")
    if fault.takes:
        said.append(f"It may be told {listed(fault.takes)}, too.")
    return " ".join(said)


def listed(names: tuple[str, ...]) -> str:
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def way_back(drill: dict[str, Any]) -> str:
    limits = docs_faults.limits() | drill.get("limits", {})
    return f"""\
Afterwards the report says: "{drill["remedy"]}" What does that is a script on the host. It is rehearsed while nothing is
wrong, armed as a timer and for the next boot, and both are read back; only then anything is broken. Whatever happens to
the drill itself, the host runs the script by itself {limits["undo_after_s"]:g} seconds later, unless `limits` say
otherwise. In the end the host is held against what it was, and anything that is left over fails the drill."""


def before() -> str:
    return "Each of these refuses the drill, and none of them only warns:\n\n" + "\n".join(
        f"- {said}" for said in docs_faults.guards()
    )


def run(name: str) -> str:
    return "\n\n".join([*_embedded(name), *_lab(name), *_own(name)])


def _embedded(name: str) -> Iterator[str]:
    if name not in targets("embedded"):
        yield "The embedded node of `make demo` cannot have it: a user's processes neither break nor put back so much."
        return
    play = "ansible-playbook -i inventories/embedded playbooks/drill.yml"
    confirm = " -e drill_confirm=pve1" if catalog()[name]["blast_radius"] == "host" else ""
    mark = "run" if runs_here(name) else "skip: the guests of a user have no control group each, which the drill says"
    yield "On the embedded node that `make demo KEEP=1` has left up. This only shows what would be broken:"
    yield f"```sh {mark}\n{play} -e drill_name={name}{confirm} --check\n```"
    yield "Without `--check` it is done."


def _lab(name: str) -> Iterator[str]:
    lab, classes = settings("lab"), list(TOUCHES)
    above = classes.index(catalog()[name]["blast_radius"]) > classes.index(lab["drill_ceiling"])
    make = f"make drill DRILL={name}{' CONFIRM=' + lab['drill_node'] if above else ''}"
    here = {"drill_targets": {name: targets("lab")[name]}}
    text = yaml.safe_dump(here, default_flow_style=None, width=100, sort_keys=False)
    yield "On the lab machine, which is built once for that and takes minutes:"
    yield f"```sh skip: it builds and starts a virtual machine as root\n{make} CHECK=1\n{make}\n```"
    yield "What it hits there, and what your own inventory has to say for a host of yours:"
    yield f"```yaml check: these are variables of an inventory, for a host that may be broken\n{text}```"


def _own(name: str) -> Iterator[str]:
    yield "On a host of your own that is there to be broken:"
    play, confirm = f"ansible-playbook pvelab.proxmox.drill -e drill_name={name}", ""
    if catalog()[name]["blast_radius"] in ABOVE:
        confirm = " -e drill_confirm=NODE"
    yield f"```sh skip: it needs a Proxmox VE host that may be broken\n{play}{confirm} --check\n{play}{confirm}\n```"


def result(name: str) -> str:
    found = report(name)
    if not found:
        return (
            "There is no report of a real run of this drill here yet. What each part of one means is explained in"
            " [reading a report](../reading-a-report.md)."
        )
    text = found.read_text(encoding="utf-8")
    verdict = re.search(r"verdict `(\w+)`", text)
    said = re.findall(r"^- .*$", text.split("## Expected and measured")[1].split("\n| ")[0], re.MULTILINE)
    base, lines = f"../../drills/{name}", "\n".join(said)
    assert verdict, f"{found} says no verdict"
    return f"""\
A real run of it on the lab machine ended as `{verdict[1]}`: [the report]({base}/report.html),
[as text]({base}/report.md). [Reading a report](../reading-a-report.md) says what each part means.

![A real run of {name}]({base}/report.svg)

{lines}"""
