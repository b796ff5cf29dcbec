# SPDX-License-Identifier: GPL-3.0-or-later
"""What is run at each push is what anybody can run: .ci/run and targets of make."""

from __future__ import annotations

import os
import re
from typing import Any

from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.architecture.tree import ROOT

WORKFLOW = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
JOBS: dict[str, Any] = yaml_load(WORKFLOW)["jobs"]
OURS = re.compile(r"(?:make|\.ci/|tools/)\S*(?: \S+)*")


def commands() -> list[str]:
    return [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]


def test_ci_runs_what_anybody_can_run() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    own = [command for command in commands() if OURS.fullmatch(command)]
    assert ".ci/run" in own and os.access(ROOT / ".ci/run", os.X_OK)
    for target in [word for command in own if command.startswith("make ") for word in command.split()[1:]]:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_each_supported_python_is_tried() -> None:
    """Those for which ansible-core is pinned, and which ansible-test is given."""
    tried = JOBS["pythons"]["strategy"]["matrix"]["python"]
    tool = (ROOT / "tools/ansible-test").read_text(encoding="utf-8")
    loop = re.search(r"for version in ([\d. ]+); do", tool)
    assert loop and loop[1].split() == tried


def test_a_job_ends_and_may_only_read() -> None:
    assert yaml_load(WORKFLOW)["permissions"] == {"contents": "read"}
    assert all(0 < job["timeout-minutes"] <= 360 for job in JOBS.values())


def test_paths_that_are_kept_are_where_things_are() -> None:
    kept = [s["with"]["key"] for job in JOBS.values() for s in job["steps"] if "cache@" in str(s.get("uses"))]
    patterns = [pattern for key in kept for pattern in re.findall(r"'([^']+)'", key)]
    assert patterns and [p for p in patterns if not any(ROOT.glob(p))] == []
