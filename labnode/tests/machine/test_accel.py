# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether KVM works, and is worth it, is found out beside everything else, by comparison."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from machine_lab import Lab, until

from labnode.machine import accel
from labnode.machine.accel import DONE, kvm_works
from labnode.machine.model import Qemu
from labnode.storage import run


def program(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


async def test_the_probe_tells_a_guest_that_runs_from_one_that_does_not(lab: Lab, tmp_path: Path) -> None:
    assert await kvm_works(lab.machines.qemu.binary, timeout=30, accel="tcg")
    ended = program(tmp_path / "ended", "exit 1")
    assert not await kvm_works(ended, timeout=30, accel="tcg")


@pytest.mark.parametrize(("takes_s", "works"), [(0.0, True), (0.4, True), (20.0, False)])
async def test_kvm_that_is_much_slower_than_emulation_is_none(tmp_path: Path, takes_s: float, works: bool) -> None:
    text = f'case "$*" in *tcg*) sleep 0.5;; *) sleep {takes_s};; esac; exit {DONE}'
    before = asyncio.get_running_loop().time()
    assert await kvm_works(program(tmp_path / "qemu", text), accel="other") is works
    assert asyncio.get_running_loop().time() - before < 15


async def test_kvm_is_given_its_time_where_nothing_can_be_emulated(tmp_path: Path) -> None:
    text = f'case "$*" in *tcg*) exit 1;; *) sleep 0.5;; esac; exit {DONE}'
    assert await kvm_works(program(tmp_path / "qemu", text), accel="other")


async def test_a_probe_that_hangs_is_given_up_and_leaves_no_process(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    hanging = program(tmp_path / "hangs", f"echo $$ > {pid}.new && mv {pid}.new {pid} && exec sleep 600")
    before = asyncio.get_running_loop().time()
    assert not await kvm_works(hanging, timeout=3.0, accel="tcg")
    assert asyncio.get_running_loop().time() - before < 8
    assert not Path("/proc", pid.read_text().strip()).exists()


class Stand:
    """A program that stands for QEMU; its guests run, at once, with KVM."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.notes, self._asked = folder / "qemu.json", folder / "asked"
        says = (
            'case "$*" in *version*) echo version 10.0.13;; *-cpu*) echo x86 max; echo Recognized;; *) exit 99;; esac'
        )
        self.path = program(folder / "qemu", f'echo "$1 $2" >> {self._asked}; {says}')
        monkeypatch.setattr(accel, "_usable", lambda: True)
        for module, real in ((accel, accel.tool), (run, run.tool)):
            monkeypatch.setattr(
                module, "tool", lambda name, real=real: self.path if name == accel.BINARY else real(name)
            )

    async def found(self) -> Qemu:
        return await (await accel.find_qemu("auto", self.notes)).settled()

    def asked(self) -> list[str]:
        """What it was asked since this was called last; the emulated guest may be given up before it has begun."""
        words = self._asked.read_text().splitlines() if self._asked.exists() else []
        self._asked.unlink(missing_ok=True)
        return sorted({*words} - {"-accel tcg"})


ALL = ["--version ", "-accel kvm", "-cpu help"]


async def test_a_node_that_starts_again_knows_its_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path, monkeypatch)
    first = await stand.found()
    assert (first.kvm, first.text, first.models, stand.asked()) == (True, "10.0.13", {"max"}, ALL)
    again = await stand.found()
    assert (again, stand.asked()) == (first, [])


async def test_what_is_known_of_qemu_grows_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path, monkeypatch)
    await stand.found()
    stand.asked()
    booted = tmp_path / "boot_id"
    booted.write_text("another\n")
    monkeypatch.setattr(accel, "BOOT_ID", booted)
    assert (await stand.found()).kvm and stand.asked() == ["-accel kvm"], "after a boot KVM is tried again"
    with Path(stand.path).open("a") as file:
        file.write("# an upgrade\n")
    assert (await stand.found()).kvm and stand.asked() == ALL
    stand.notes.write_text("no JSON")
    assert (await stand.found()).kvm and stand.asked() == ALL
    monkeypatch.setattr(accel, "_usable", lambda: False)
    assert not (await stand.found()).kvm, "somebody has taken it away"
    assert not (await accel.find_qemu("off", stand.notes)).kvm


async def test_kvm_that_did_not_work_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand = Stand(tmp_path, monkeypatch)
    works = Path(stand.path).read_text()
    program(Path(stand.path), works.replace("exit 99", "exit 1"))
    assert not (await stand.found()).kvm
    stand.asked()
    assert not (await stand.found()).kvm
    assert stand.asked() == ["-accel kvm"]


def unsettled() -> tuple[Qemu, asyncio.Future[bool]]:
    """A QEMU of which it is not known yet whether KVM works, and the answer."""
    answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def probe() -> bool:
        return await answer

    return Qemu("qemu", (10, 0, 0), frozenset(), kvm=False, probe=asyncio.create_task(probe())), answer


async def test_all_who_need_to_know_wait_for_one_probe() -> None:
    qemu, answer = unsettled()
    waiting = [asyncio.create_task(qemu.settled()) for _number in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    assert not waiting[1].done()
    answer.set_result(True)
    assert (await waiting[1]).kvm and (await waiting[2]).kvm and (await qemu.settled()).kvm
    assert waiting[0].cancelled()


async def test_a_probe_is_given_up_when_the_node_stops() -> None:
    qemu, answer = unsettled()
    await asyncio.sleep(0)
    await qemu.close()
    assert answer.cancelled()


async def test_a_guest_starts_once_the_probe_is_over(lab: Lab) -> None:
    waits, answer = unsettled()
    lab.machines.qemu = replace(lab.machines.qemu, probe=waits.probe)
    start = asyncio.create_task(lab.start(100, {"memory": "32"}))
    done, _pending = await asyncio.wait([start], timeout=0.5)
    assert not done and not lab.machines.alive(100)
    answer.set_result(False)

    async def alive() -> bool:
        return lab.machines.alive(100)

    await until(alive, "the guest starts")
    await start
    assert lab.machines.guest(100).meta()["kvm"] is False
