# SPDX-License-Identifier: GPL-3.0-or-later
"""A seam that answers from data: what each read returns before and after writes, and which writes were asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from ansible_collections.pvelab.proxmox.plugins.module_utils.api_crew import Crew
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_files import LocalFile
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.complaints import is_missing
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.progress import Progress
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure, Missing


class FakeApi:
    """``stages[0]`` holds the answers at first; each later stage overlays it once another round of writes is over.

    An answer is keyed "GET /path" or "GET /path?key=value" (parameters sorted); the more exact key wins. An answer
    {"failure": "text", "status": 500} is raised. Reading what no stage knows is an error of the case.
    """

    def __init__(self, stages: Sequence[Mapping[str, Any]], *, read_only: bool = False) -> None:
        self.stages = list(stages)
        self.read_only = read_only
        self.warnings: list[str] = []
        self.progress = Progress()
        self.writes: list[Call] = []
        self._answers = dict(self.stages.pop(0))
        self._wrote = False

    def get(self, path: str, /, **params: Any) -> Any:
        if self._wrote:
            self._wrote = False
            if self.stages:
                self._answers.update(self.stages.pop(0))
        sent = {k: v for k, v in params.items() if v is not None}
        exact = f"GET {path}?{urlencode(sorted(sent.items()))}" if sent else f"GET {path}"
        for key in (exact, f"GET {path}"):
            if key in self._answers:
                return self._pending(path, self._reply(key)) if path.endswith("/pending") else self._reply(key)
        if path.endswith("/pending") and f"GET {path.removesuffix('pending')}config" in self._answers:
            return self._pending(path, [])
        raise AssertionError(f"the case has no answer for {exact}; it knows {sorted(self._answers)}")

    def each(self, work: Callable[[Any], Any], items: Iterable[Any], *, parallel: int) -> list[Any]:
        """One after the other."""
        return [work(item) for item in items]

    def hurried(self, timeout_s: float) -> FakeApi:
        """Answers take no time."""
        return self

    def _pending(self, path: str, entries: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """What waits for a restart stands in the answer beside all that the configuration holds."""
        config = self._reply(f"GET {path.removesuffix('pending')}config")
        told = {e["key"]: e for e in entries}
        return [*({"key": k, "value": v} for k, v in config.items() if k not in told), *entries]

    def find(self, path: str, /, **params: Any) -> Any:
        """None where the answer is a failure that says that there is no such object."""
        try:
            return self.get(path, **params)
        except Failure as failure:
            if is_missing(failure):
                return None
            raise

    def crew(self) -> Crew:
        """Views of this fake; a case of many objects says max_parallel: 1, so that its stages have an order."""
        return Crew(lambda _bell, read_only: _Member(self, read_only), lambda: None)

    def version(self) -> tuple[int, ...]:
        return tuple(int(n) for n in str(self.get("/version")["version"]).split("."))

    def log(self, task: str, lines: int = 50) -> list[str]:
        """Answers are keyed "LOG upid"."""
        return list(self._answers[f"LOG {task}"][-lines:])

    def file(self, path: str, algorithm: str | None = None) -> LocalFile:
        """Answers are keyed "FILE /path": {size, sha256}; a path that is no key is a file that does not exist."""
        known = self._answers.get(f"FILE {path}")
        if known is None:
            raise Missing(f"there is no file {path} on the machine that runs this task.")
        return LocalFile(known["size"], known[algorithm] if algorithm else None)

    def do(self, step: Call) -> Any:
        if self.read_only:
            raise AssertionError(f"a write in check mode: {step.describe()}")
        self.writes.append(step)
        self._wrote = True
        key = f"{step.method} {step.path}"
        return self._reply(key) if key in self._answers else None

    def wait(self, task: str, timeout_s: float | None = None) -> None:
        """A task ends at once, and what it left shows in the next stage."""
        self._wrote = True
        self._reply(f"WAIT {task}")

    def _reply(self, key: str) -> Any:
        answer = self._answers[key]
        if isinstance(answer, Mapping) and "failure" in answer:
            raise Failure(str(answer["failure"]), status=answer.get("status", 500))
        return answer


class _Member:
    """The fake as one of many views has it: with warnings of its own, and some only look."""

    def __init__(self, whole: FakeApi, read_only: bool) -> None:
        self.warnings: list[str] = []
        self.busy: Callable[[], None] = lambda: None
        self.get, self.wait = whole.get, whole.wait
        self._whole = whole
        self._read_only = read_only

    def do(self, step: Call) -> Any:
        if self._read_only:
            raise AssertionError(f"a write by a view that only looks: {step.describe()}")
        return self._whole.do(step)
