# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down what each run of converge.yml changed, so that the next step can hold one run against another."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: outcomes
type: aggregate
short_description: What a run of a scenario changed
description:
  - Writes C(NUMBER-check.json) or C(NUMBER-run.json) into the directory in the environment variable E(OUTCOMES), with
    C(changed), the tasks that changed something or would have, by host and item, and C(warnings).
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "outcomes"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._changed: list[str] = []
        self._converges = False

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._converges = Path(playbook._file_name).name == "converge.yml"

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note(result)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        self._note(result, str(result.result.get("_ansible_item_label", "")))

    def _note(self, result: Any, item: str = "") -> None:
        # The sum of a loop says nothing that its items do not.
        if result.result.get("changed") and "results" not in result.result:
            self._changed.append(" | ".join(filter(None, [result.host.get_name(), result.task.get_name(), item])))

    def v2_playbook_on_stats(self, stats: Any) -> None:
        directory = os.environ.get("OUTCOMES")
        if not directory or not self._converges:
            return
        Path(directory).mkdir(parents=True, exist_ok=True)
        number = len(list(Path(directory).glob("*.json"))) + 1
        mode = "check" if context.CLIARGS["check"] else "run"
        path = Path(directory) / f"{number}-{mode}.json"
        path.write_text(json.dumps({"changed": sorted(self._changed)}, indent=1) + "\n", encoding="utf-8")
