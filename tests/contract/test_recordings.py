# SPDX-License-Identifier: GPL-3.0-or-later
"""labnode answers as a real Proxmox VE 9.1 node does: exchanges of our own always, the recordings where they are
at hand.

The figure and what does not agree are written down in labnode/FIDELITY.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import urllib3
from ansible.module_utils.common.yaml import yaml_load

from ansible_collections.pvelab.proxmox.tests.contract.schema import PINNED
from ansible_collections.pvelab.proxmox.tests.lab import PASSWORD, Lab, until

CONTRACT = PINNED.parent
ROOT = Path(__file__).resolve().parents[2]
EXCHANGES = yaml_load((Path(__file__).parent / "exchanges.yml").read_text(encoding="utf-8"))
urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A fresh node."""
    with Lab(tmp_path) as node:
        yield node


def numbers_out(text: str | None) -> str:
    """The text with every number as #: ids and positions differ from run to run."""
    return re.sub(r"\d+", "#", text or "").strip()


class Caller:
    """root@pam on one node."""

    def __init__(self, url: str) -> None:
        self.base = f"{url}/api2/json"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = False
        login = {"username": "root@pam", "password": PASSWORD}
        said = self.session.post(f"{self.base}/access/ticket", data=login, timeout=30).json()["data"]
        self.session.cookies.set("PVEAuthCookie", said["ticket"])
        self.session.headers["CSRFPreventionToken"] = said["CSRFPreventionToken"]

    def call(self, method: str, path: str, params: dict[str, Any]) -> requests.Response:
        """One request."""
        where: dict[str, Any] = {"params" if method in ("GET", "DELETE") else "data": params}
        return self.session.request(method, self.base + path, timeout=60, **where)

    def exit_status(self, upid: str) -> str:
        """How a task ended."""
        path = f"/nodes/{upid.split(':')[1]}/tasks/{quote(upid, safe='')}/status"

        def stopped() -> dict[str, Any] | None:
            status = self.call("GET", path, {}).json()["data"]
            return status if status["status"] == "stopped" else None

        return str(until(stopped, f"{upid} ends")["exitstatus"])


def differences(caller: Caller, want: dict[str, Any]) -> list[str]:
    """What an exchange answers other than it should."""
    answer = caller.call(want["method"], want["path"], want.get("params", {}))
    if answer.status_code != want.get("status", 200):
        return [f"status {answer.status_code}: {answer.reason} {answer.text[:200]}"]
    wrong = []
    if "reason" in want and numbers_out(answer.reason) != numbers_out(want["reason"]):
        wrong.append(f"reason {answer.reason!r}")
    said = answer.json() if answer.text else {}
    if "errors" in want and sorted(said.get("errors", {})) != want["errors"]:
        wrong.append(f"errors {said.get('errors')}")
    data = said.get("data")
    if "task" in want and numbers_out(status := caller.exit_status(data)) != numbers_out(want["task"]):
        wrong.append(f"task {status!r}")
    if "data" in want and data != want["data"]:
        wrong.append(f"data {data!r}")
    first = data[0] if isinstance(data, list) and data else data
    if missing := set(want.get("keys", ())) - set(first or {}):
        wrong.append(f"lacks {sorted(missing)}")
    return wrong


def test_our_own_exchanges(lab: Lab) -> None:
    caller = Caller(lab.url)
    wrong = {}
    for number, want in enumerate(EXCHANGES):
        if found := differences(caller, want):
            wrong[f"{number} {want['method']} {want['path']}"] = found
    assert wrong == {}


def stated_figure() -> tuple[int, int]:
    """Agreeing and all exchanges, as FIDELITY.md states them."""
    text = (ROOT / "labnode/FIDELITY.md").read_text(encoding="utf-8")
    match = re.search(r"\*\*(\d+) of (\d+) recorded exchanges agree", text)
    assert match is not None, "FIDELITY.md states no figure"
    return int(match[1]), int(match[2])


def test_the_stated_figure_is_no_less_than_promised() -> None:
    good, total = stated_figure()
    assert good / total >= 0.9


@pytest.fixture
def no_pool_left() -> Iterator[None]:
    """The recordings make a storage in /srv/pool1: what was not there before is not there afterwards."""
    pool = Path("/srv/pool1")
    was_there = pool.exists()
    yield
    if not was_there:
        shutil.rmtree(pool, ignore_errors=True)


@pytest.mark.usefixtures("no_pool_left")
def test_the_recordings(lab: Lab, tmp_path: Path) -> None:
    if not (CONTRACT / "recorded").is_dir():
        pytest.skip("the recordings are not at hand")
    if not any(os.access(path, os.W_OK) for path in ("/srv/pool1", "/srv")):
        pytest.skip("the recordings make a storage in /srv/pool1, and this user may not make that directory")
    got = tmp_path / "got"
    record = [sys.executable, CONTRACT / "record.py", lab.url, "root@pam", PASSWORD, lab.node, got]
    subprocess.run(record, check=True, capture_output=True, timeout=400)
    diff = [sys.executable, CONTRACT / "diff.py", CONTRACT / "recorded", got, "-v", "--min", "0.9"]
    said = subprocess.run(diff, check=False, capture_output=True, text=True, timeout=60)
    match = re.search(r"^(\d+) of (\d+) recorded exchanges agree", said.stdout, re.MULTILINE)
    assert said.returncode == 0 and match is not None, said.stdout
    good, total = stated_figure()
    assert (int(match[1]), int(match[2])) >= (good, total), said.stdout
