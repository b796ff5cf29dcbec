# SPDX-License-Identifier: GPL-3.0-or-later
"""The watch sees what a node tells nobody: against a labnode whose guests are held, killed, locked and left alone."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.unit_parts import systemd_takes, unit_of
from ansible_collections.pvelab.proxmox.tests.integration.watch_parts import Receiver, Watch
from ansible_collections.pvelab.proxmox.tests.lab import Lab, until

NODE = "pve1"
# So short that tests are soon over; a stall is longer than anything that a busy machine does to a guest by itself.
SHORT = {"paused_s": 0.5, "lock_s": 0.5, "stall_s": 1.0}


@pytest.fixture(scope="module")
def secret(lab: Lab) -> str:
    return str(lab.api().access.users("root@pam").token("watch").post(privsep=0)["value"])


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made


@pytest.fixture
def watch(tmp_path: Path, lab: Lab, secret: str, receiver: Receiver) -> Iterator[Watch]:
    headers = {"Authorization": "Bearer of-the-hook"}
    made = Watch(tmp_path, lab, secret, settings=SHORT, webhook_url=receiver.url, webhook_headers=headers)
    with made:
        until(lambda: made.number('pvelab_watch_sees{source="guest"}')() == 1.0, "the first look", 30)
        yield made


class Guest:
    """A guest that boots nothing, through somebody else's client."""

    def __init__(self, lab: Lab, vmid: int, **more: Any) -> None:
        self.lab, self.vmid, self.nodes = lab, vmid, lab.api().nodes(NODE)
        self.nodes.qemu.post(vmid=vmid, name=f"guest{vmid}", memory=16, kvm=0, **more)
        until(lambda: vmid in [row["vmid"] for row in self.nodes.qemu.get()], "the guest is there")

    def do(self, action: str, **more: Any) -> None:
        upid = self.nodes.qemu(self.vmid).status(action).post(**more)
        until(lambda: self.nodes.tasks(upid).status.get()["status"] == "stopped", action)
        assert self.nodes.tasks(upid).status.get()["exitstatus"] == "OK", action

    def kill(self) -> None:
        os.kill(int((self.lab.state / f"run/{self.vmid}/qemu.pid").read_text()), signal.SIGKILL)


def test_a_guest_that_is_held_is_told_once_and_again_when_it_goes_on(
    lab: Lab, watch: Watch, receiver: Receiver
) -> None:
    guest = Guest(lab, 100)
    guest.do("start")
    guest.do("suspend")
    told = receiver.told("guest/100/paused", "raised")
    assert told["text"].startswith("[ALERT] host1: guest 100 (guest100) is called running and is held (paused)")
    assert (told["severity"], told["labels"]) == ("warning", {"vmid": "100", "name": "guest100"})
    assert receiver.headers[-1]["Authorization"] == "Bearer of-the-hook"
    sample = 'pvelab_watch_alert{kind="guest",condition="paused",severity="warning",vmid="100",name="guest100"}'
    until(lambda: watch.number(sample)() == 1.0, sample)
    assert watch.number('pvelab_guest_running{vmid="100",name="guest100"}')() == 0.0
    assert watch.once() == (1, f"warning: {told['alert']}\n")
    guest.do("resume")
    over = receiver.told("guest/100/paused", "raised", "cleared")
    assert over["text"].startswith("[OK] host1: over: guest 100") and over["seconds"] >= 0.5
    assert watch.once() == (0, "")
    guest.do("stop")


def test_a_guest_that_dies_is_told_and_one_that_is_stopped_is_not(lab: Lab, watch: Watch, receiver: Receiver) -> None:
    killed, stopped = Guest(lab, 110), Guest(lab, 111)
    for guest in (killed, stopped):
        guest.do("start")
        until(
            lambda g=guest: watch.number(f'pvelab_guest_running{{vmid="{g.vmid}",name="guest{g.vmid}"}}')() == 1, "up"
        )
    stopped.do("stop")
    killed.kill()
    assert "no task of the node has stopped it" in receiver.told("guest/110/died", "raised")["text"]
    killed.do("start")
    receiver.told("guest/110/died", "raised", "cleared")
    assert receiver.events("guest/111/died") == []
    killed.do("stop")


def test_a_canary_that_writes_nothing_and_one_that_nobody_wants_to_hear_of(
    lab: Lab, watch: Watch, receiver: Receiver
) -> None:
    silent = Guest(lab, 120, tags="canary;web", scsi0="local:0.01,format=raw")
    unwatched = Guest(lab, 121, tags="canary;unwatched", scsi0="local:0.01,format=raw")
    for guest in (unwatched, silent):
        guest.do("start")
    assert "has written nothing for" in receiver.told("guest/120/stalled", "raised")["text"]
    silent.do("stop")
    receiver.told("guest/120/stalled", "raised", "cleared")
    assert [message for message in receiver.messages if "/121/" in message["key"]] == []
    unwatched.do("stop")


def test_a_lock_that_nobody_holds(lab: Lab, watch: Watch, receiver: Receiver) -> None:
    guest = Guest(lab, 130)
    config = guest.nodes.qemu(130).config
    config.put(lock="snapshot", skiplock=1)
    assert "is locked (snapshot)" in receiver.told("guest/130/locked", "raised")["text"]
    config.put(delete="lock", skiplock=1)
    receiver.told("guest/130/locked", "raised", "cleared")


def test_nothing_is_lost_or_told_twice_when_the_receiver_the_watch_and_the_node_go_away(
    lab: Lab, watch: Watch, receiver: Receiver
) -> None:
    guest = Guest(lab, 140)
    guest.do("start")
    receiver.refuses = True
    guest.do("suspend")
    until(lambda: watch.number("pvelab_watch_outbox_messages")() == 1.0, "a message waits")
    watch.kill()
    receiver.refuses = False
    watch.start()
    receiver.told("guest/140/paused", "raised")
    lab.kill()
    until(lambda: watch.number('pvelab_watch_sees{source="guest"}')() == 0.0, "it sees nothing")
    assert f"node {NODE} does not answer" in receiver.told("watch/guest/unseen", "raised")["text"]
    assert receiver.events("guest/140/paused") == ["raised"], "what cannot be seen is not over"
    lab.start()
    receiver.told("watch/guest/unseen", "raised", "cleared")
    guest.do("resume")
    receiver.told("guest/140/paused", "raised", "cleared")
    guest.do("stop")
    until(lambda: watch.number("pvelab_watch_outbox_messages")() == 0.0, "nothing waits")


def test_another_certificate_is_refused_and_no_secret_is_said(tmp_path: Path, lab: Lab, secret: str) -> None:
    watch = Watch(tmp_path, lab, secret, fingerprints=["AA:" * 31 + "AA"])
    status, _said = watch.once()
    assert status == 2
    with watch:
        until(lambda: "another certificate than the one that is pinned" in watch.log(), "it says so")
    assert secret not in watch.log()
    assert secret not in (tmp_path / "state/state.json").read_text()


def test_a_state_that_cannot_be_read_is_no_end(tmp_path: Path, lab: Lab, secret: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/state.json").write_text("{ half")
    with Watch(tmp_path, lab, secret) as watch:
        until(lambda: "half" not in (tmp_path / "state/state.json").read_text(), "it begins anew")
        assert "this one begins anew" in watch.log()
    assert json.loads((tmp_path / "state/state.json").read_text())["alerts"] == []


@pytest.mark.parametrize("textfile", ["", "/var/lib/prometheus/pvelab.prom"])
def test_systemd_takes_the_unit(tmp_path: Path, textfile: str) -> None:
    """It may do what an administrator may with devices, and little else: thin pools answer nobody else."""
    unit = tmp_path / "guest-watch.service"
    text = unit_of("guest_watch", "guest-watch.service.j2", unit, guest_watch_textfile=textfile)
    assert ("ReadWritePaths=/var/lib/prometheus\n" in text) == bool(textfile)
    systemd_takes(unit, 45)
