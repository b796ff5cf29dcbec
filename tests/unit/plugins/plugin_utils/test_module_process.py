# SPDX-License-Identifier: GPL-3.0-or-later
"""A module as a fork of this process: what it is given, what comes back, and that none outlives who waits for it."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.pvelab.proxmox.plugins.plugin_utils.module_process import Module


def called(main: Callable[[], None], folder: Path, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    return Module(main, {"word": "given"}, environment or {}, str(folder), end_s=0.2).call()


def spoken() -> None:
    module = AnsibleModule(argument_spec={"word": {"type": "str"}})
    module.warn("mind the gap")
    module.exit_json(
        changed=True, word=module.params["word"], place=os.getcwd(), said=os.environ["SAID"], pid=os.getpid()
    )


def test_it_is_told_its_options_and_tells_its_result(tmp_path: Path) -> None:
    said = called(spoken, tmp_path, {"SAID": "so"})
    result = json.loads(said["stdout"])
    assert (said["rc"], said["stderr"]) == (0, "")
    assert (result["word"], result["place"], result["said"]) == ("given", str(tmp_path), "so")
    assert "mind the gap" in str(result["warnings"])
    assert result["pid"] != os.getpid()


def test_nothing_of_it_stays_in_this_process(tmp_path: Path) -> None:
    def loud() -> None:
        os.environ["LOUD"] = "yes"
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.exit(3)

    before = (os.getcwd(), signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    assert called(loud, tmp_path)["rc"] == 3
    assert (os.getcwd(), signal.getsignal(signal.SIGTERM), signal.pthread_sigmask(signal.SIG_BLOCK, ())) == before
    assert "LOUD" not in os.environ


def test_a_bug_is_told_of(tmp_path: Path) -> None:
    def broken() -> None:
        raise ValueError("no such luck")

    said = called(broken, tmp_path)
    assert said["rc"] == 1 and said["stdout"] == ""
    assert "ValueError: no such luck" in said["stderr"]


def test_a_signal_ends_it_as_it_ends_every_program(tmp_path: Path) -> None:
    def shot() -> None:
        signal.raise_signal(signal.SIGTERM)

    # Ansible's workers do something else with it, which is not for the module.
    before = signal.signal(signal.SIGTERM, lambda *_told: sys.exit(0))
    try:
        assert called(shot, tmp_path)["rc"] == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


class Late(Exception):
    """Somebody waits no longer."""


def _late(_number: int, _frame: FrameType | None) -> None:
    raise Late


def _signal_the_one_who_waits() -> None:
    """To the thread that has begun this process: any other one of the test's own might take what that one holds off."""
    parent = os.getppid()
    assert ctypes.CDLL(None).tgkill(parent, parent, signal.SIGALRM) == 0


_after_fork: list[Callable[[], None]] = []
os.register_at_fork(after_in_parent=lambda: [wait() for wait in _after_fork])


def _until_it_has_signalled() -> None:
    deadline = time.monotonic() + 30
    while signal.SIGALRM not in signal.sigpending():
        assert time.monotonic() < deadline
        os.sched_yield()


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at-once"])
@pytest.mark.parametrize("stubborn", [False, True], ids=["ends", "stubborn"])
def test_whoever_waits_no_longer_ends_it(tmp_path: Path, stubborn: bool, at_once: bool) -> None:
    place = tmp_path / "pid"

    def slow() -> None:
        if stubborn:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        place.write_text(str(os.getpid()), encoding="utf-8")
        _signal_the_one_who_waits()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            signal.sigtimedwait([signal.SIGUSR1], 1)

    before = signal.signal(signal.SIGALRM, _late)
    _after_fork[:] = [_until_it_has_signalled] if at_once else []
    try:
        with pytest.raises(Late):
            called(slow, tmp_path)
    finally:
        _after_fork.clear()
        signal.signal(signal.SIGALRM, before)
    with pytest.raises(ProcessLookupError):
        os.kill(int(place.read_text(encoding="utf-8")), 0)
