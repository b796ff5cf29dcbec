# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that answers from data: what commands print and files hold around writes, and which were asked for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Failure, Run, Write


class FakeHost:
    """``stages[0]`` holds the answers at first; each later stage overlays it once another round of steps is over.

    A command is keyed by its line as a shell would be given it, and answers with what it prints: a text, {json: data},
    or {rc, err, out}; ``stdin`` beside that is the JSON that it has to be handed. "WHICH name" answers where a program
    is (null: nowhere; a program that is not keyed is in /usr/sbin), "NAMES /dir" what a directory holds, "LINK /path"
    where a symbolic link leads, and an absolute path the text of that file (null: no such file). A program that is
    handed over as text is keyed by its first line, which is a comment that names it: "# look at a repository". Asking
    what no stage knows is an error of the case.
    """

    def __init__(self, stages: Sequence[Mapping[str, Any]], *, read_only: bool = False) -> None:
        self.stages = list(stages)
        self.read_only = read_only
        self.warnings: list[str] = []
        self.writes: list[Run | Write] = []
        self._answers = dict(self.stages.pop(0))
        self._wrote = False

    def query(
        self, argv: Sequence[str], *, ok_rcs: Sequence[int] = (0,), timeout_s: float = 60.0, stdin: str | None = None
    ) -> str:
        named = len(argv) > 2 and argv[1] == "-c" and argv[2].startswith("# ")
        line = argv[2].splitlines()[0] if named else shlex.join(argv)
        answer = self._known(line)
        if isinstance(answer, Mapping) and "stdin" in answer:
            assert json.loads(stdin or "null") == answer["stdin"], f"{line} is handed {stdin}"
        return self._output(line, ok_rcs, answer)

    def read(self, path: str) -> str | None:
        text: str | None = self._known(path)
        return text

    def names(self, path: str) -> list[str]:
        return sorted(self._known(f"NAMES {path}") or [])

    def link(self, path: str) -> str | None:
        target: str | None = self._known(f"LINK {path}")
        return target

    def which(self, name: str) -> str | None:
        self._turn()
        found: str | None = self._answers.get(f"WHICH {name}", f"/usr/sbin/{name}")
        return found

    def do(self, step: Run | Write) -> Any:
        if self.read_only:
            raise AssertionError(f"a write in check mode: {step.describe()}")
        self.writes.append(step)
        self._wrote = True
        if isinstance(step, Write):
            return None
        line = shlex.join(step.argv)
        return self._output(line, step.ok_rcs, self._answers.get(line, ""))

    def _turn(self) -> None:
        if self._wrote:
            self._wrote = False
            if self.stages:
                self._answers.update(self.stages.pop(0))

    def _known(self, key: str) -> Any:
        self._turn()
        if key not in self._answers:
            raise AssertionError(f"the case has no answer for {key}; it knows {sorted(self._answers)}")
        return self._answers[key]

    def _output(self, line: str, ok_rcs: Sequence[int], answer: Any) -> str:
        if not isinstance(answer, Mapping):
            return str(answer)
        if "json" in answer:
            return json.dumps(answer["json"])
        rc = int(answer.get("rc", 0))
        if rc not in ok_rcs:
            argv = shlex.split(line)
            raise Failure(f"{argv[0]} ended with {rc}: {answer.get('err', '')}", rc=rc, argv=argv)
        return str(answer.get("out", ""))
