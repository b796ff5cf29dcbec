# SPDX-License-Identifier: GPL-3.0-or-later
"""What the stories of the modules' examples share: a world for each module, a playbook of both, and what it has to say.

A world is data. `prepare` are tasks before the first example, `before` are tasks before the example of that number,
`after` are tasks behind the last one, `cleanup` are tasks that run however it went. A list among them is taken task by
task. `variables` are what examples leave to the reader, `replace` is what a lab cannot have, `skipped` says for the
example of that number why its `when` does not hold here, and `hosts` is where the play runs.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.test_complete import constant
from ansible_collections.pvelab.proxmox.tests.architecture.tree import MODULES
from ansible_collections.pvelab.proxmox.tests.lab import BIN, ROOT

GROUP = yaml_load((ROOT / "meta/runtime.yml").read_text(encoding="utf-8"))["action_groups"]["api"]
EXAMPLES = {path.stem: constant(path, "EXAMPLES") for path in MODULES}
Tasks = list[dict[str, Any]]


def worlds(name: str) -> dict[str, dict[str, Any]]:
    """The worlds of a file beside this one, by module. What begins with a dot is what several have in common."""
    found = yaml_load(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return {module: world for module, world in found.items() if not module.startswith(".")}


def filled(value: Any, places: Mapping[str, str]) -> Any:
    """The value with its places; braces that are none of them stay."""
    text = json.dumps(value)
    for name, place in places.items():
        text = text.replace(f"{{{name}}}", place)
    return json.loads(text)


def examples(module: str, world: Mapping[str, Any]) -> Tasks:
    """The examples of a module as they stand, but for what the world replaces."""
    text = EXAMPLES[module]
    for old, new in world.get("replace", {}).items():
        assert old in text, f"no example says {old}"
        text = text.replace(old, new)
    return list(yaml_load(text))


def tasks(module: str, world: Mapping[str, Any]) -> Tasks:
    """All of a module's play but for its cleanup."""
    made = _flat(world.get("prepare", ()))
    for i, example in enumerate(examples(module, world)):
        made += [*_flat(world.get("before", {}).get(str(i), ())), example]
    return [*made, *_flat(world.get("after", ()))]


def _flat(given: Iterable[Any]) -> Tasks:
    return [task for one in given for task in (_flat(one) if isinstance(one, list) else [one])]


def play(module: str, world: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A module's play. `settings` are keywords of it, beside the world's variables."""
    cleanup = _flat(world.get("cleanup", ()))
    block = {"block": tasks(module, world), **({"always": cleanup} if cleanup else {})}
    variables = {**settings.get("vars", {}), **world.get("variables", {})}
    return {"gather_facts": False, **settings, "vars": variables, "tasks": [block]}


def carry_out(
    made: Mapping[str, Any], folder: Path, inventory: str, environment: Mapping[str, str], skipped: int = 0
) -> None:
    """Run the play, and see that every task of it was ok but for so many that are known to be skipped."""
    path = folder / "play.yml"
    path.write_text(yaml.safe_dump([made], sort_keys=False), encoding="utf-8")
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", inventory, path],
        cwd=folder,
        env={**environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    (block,) = made["tasks"]
    counted = [t for t in [*block["block"], *block.get("always", ())] if "ansible.builtin.meta" not in t]
    assert f"ok={len(counted) - skipped} " in done.stdout, done.stdout
    assert f"skipped={skipped} " in done.stdout, done.stdout
