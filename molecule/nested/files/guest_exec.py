#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs commands in guests, through the API and their agents, all guests side by side.

    guest_exec.py ENDPOINT.json < [{"vmid": 101, "argv": ["ping", "-c1", "10.0.0.1"]}, …]

prints the same list with `code` and `out` for each command. A guest whose agent does not answer in time, or a
command that does not end, is an error: a command that fails in the guest is not, its `code` tells.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "lab"))
from labvm.api import Api
from labvm.errors import LabError
from labvm.places import Endpoint

LIMIT_S = 300.0


class Node:
    """The node of the lab that an endpoint.json tells of."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.ask = Api(endpoint).log_in().ask
        self.name = self.ask("GET", "/nodes")[0]["node"]

    def run(self, vmid: int, argv: list[str]) -> dict[str, Any]:
        """Run a command in a guest to its end, once the agent answers."""
        agent = f"/nodes/{self.name}/qemu/{vmid}/agent"
        pid = self._until(lambda: self.ask("POST", f"{agent}/exec", {"command": argv}), f"agent of {vmid}")["pid"]
        ended = self._until(lambda: self._ended(agent, pid), f"{argv} in {vmid}")
        return {"vmid": vmid, "argv": argv, "code": ended.get("exitcode", -1), "out": ended.get("out-data", "")}

    def _ended(self, agent: str, pid: int) -> Any:
        status = self.ask("GET", f"{agent}/exec-status", {"pid": pid})
        return status if status["exited"] else None

    @staticmethod
    def _until(question: Any, what: str) -> Any:
        deadline, why = time.monotonic() + LIMIT_S, "no end"
        while time.monotonic() < deadline:
            try:
                if answer := question():
                    return answer
            except LabError as error:
                why = str(error)
            time.sleep(0.5)
        raise SystemExit(f"{what}: {why} within {LIMIT_S:.0f} s")


def main() -> None:
    """Commands of one guest run one after the other."""
    node = Node(Endpoint(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    commands: list[dict[str, Any]] = json.load(sys.stdin)
    guests = sorted({command["vmid"] for command in commands})

    def of(vmid: int) -> list[dict[str, Any]]:
        return [node.run(vmid, command["argv"]) for command in commands if command["vmid"] == vmid]

    with ThreadPoolExecutor(len(guests)) as pool:
        json.dump([done for result in pool.map(of, guests) for done in result], sys.stdout)


if __name__ == "__main__":
    main()
