# SPDX-License-Identifier: GPL-3.0-or-later
"""What the watch makes of what it sees: findings, alerts, numbers, mails. Texts are those of a Debian 13 host."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.tests.integration.watch_parts import PROGRAMS

WEB1 = {"vmid": 101, "name": "web1", "status": "running", "qmpstatus": "running"}


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(PROGRAMS))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "guest_watch"]:
        del sys.modules[name]


def looks(*rows: Any, tasks: Any = (), **settings: Any) -> list[list[str]]:
    """The keys found in looks one second apart, each with what the one before has left."""
    from guest_watch import findings  # noqa: PLC0415

    seen, found = findings.Seen(), []
    for second, look in enumerate(rows):
        wrong, seen = findings.guests(look, tasks, seen, 1000.0 + second, findings.Settings(**settings))
        found.append([finding.key for finding in wrong])
    return found


@pytest.mark.parametrize("state", ["io-error", "internal-error", "guest-panicked"])
def test_a_guest_that_stands_still(state: str) -> None:
    from guest_watch import findings  # noqa: PLC0415

    rows = [{**WEB1, "qmpstatus": state}]
    (found,), _seen = findings.guests(rows, [], findings.Seen(), 1.0, findings.Settings())
    assert ("qm resume 101" in found.text) == (state == "io-error")
    assert ("qm reset 101" in found.text) == (state != "io-error")
    assert looks([{**WEB1, "qmpstatus": state}]) == [[f"guest/101/{state}"]]


@pytest.mark.parametrize(
    ("more", "tasks", "found"),
    [
        ({"qmpstatus": "paused"}, [], ["guest/101/paused"]),
        ({"qmpstatus": "paused", "lock": "snapshot"}, [{"id": "101", "type": "qmsnapshot"}], []),
        ({"qmpstatus": "paused"}, [{"id": "101", "type": "qmrollback"}], []),
        ({"qmpstatus": "paused"}, [{"id": "101", "type": "qmrollback", "endtime": 999}], ["guest/101/paused"]),
        ({"lock": "backup"}, [], ["guest/101/locked"]),
        ({"lock": "backup"}, [{"id": "", "type": "vzdump"}], []),
        ({"lock": "backup"}, [{"id": "102", "type": "vzdump"}], ["guest/101/locked"]),
        ({"status": "stopped", "lock": "suspended"}, [], []),
        ({"qmpstatus": "io-error", "tags": "a;unwatched"}, [], []),
        ({"qmpstatus": "io-error", "template": 1}, [], []),
    ],
)
def test_a_guest_that_is_held_or_locked(more: dict[str, Any], tasks: list[dict[str, Any]], found: list[str]) -> None:
    assert looks([{**WEB1, **more}], tasks=tasks) == [found]


def test_a_guest_that_died_stays_dead_until_it_runs_or_is_gone() -> None:
    stopped = {**WEB1, "status": "stopped"}
    dead = ["guest/101/died"]
    assert looks([stopped], [WEB1], [stopped], [stopped], [WEB1], [stopped], []) == [[], [], dead, dead, [], dead, []]
    assert looks([WEB1], [stopped], tasks=[{"id": "101", "type": "qmshutdown", "endtime": 1001}]) == [[], []]
    assert looks([WEB1], [stopped], tasks=[{"id": "102", "type": "qmshutdown", "endtime": 1001}]) == [[], dead]


def test_a_canary_is_silent_when_all_of_its_disks_are() -> None:
    def row(first: int, second: int) -> list[dict[str, Any]]:
        disks = {"scsi0": {"wr_operations": first}, "scsi1": {"wr_operations": second}}
        return [{**WEB1, "tags": "canary", "blockstat": disks}]

    silent = ["guest/101/stalled"]
    writes = (row(5, 1), row(5, 1), row(5, 1), row(5, 2), row(5, 2), row(5, 2))
    assert looks(*writes, stall_s=2) == [[], [], silent, [], [], silent]
    assert looks(*writes, stall_s=2, canary_tags=["other"]) == [[]] * 6


THIN = """\
fast-pool-tpool: 0 2097152 thin-pool 1 45/1024 120/16384 - rw discard_passdown queue_if_no_space - 1024
my--vg-my--pool: 0 8192 thin-pool 1 1024/1024 1/64 - ro discard_passdown queue_if_no_space needs_check 1024
a-full-tpool: 0 8192 thin-pool 7 12/1024 64/64 - out_of_data_space no_discard_passdown error_if_no_space - 1024
a-broken: 0 8192 thin-pool Fail
"""


def test_thin_pools_as_the_kernel_tells_of_them() -> None:
    from guest_watch import findings  # noqa: PLC0415

    pools = findings.thin_pools(THIN + "No devices found\n")
    assert [(p["name"], p["mode"], p["needs_check"]) for p in pools] == [
        ("fast/pool", "rw", False),
        ("my-vg/my-pool", "ro", True),
        ("a/full", "out_of_data_space", False),
        ("a/broken", "fail", False),
    ]
    assert (pools[0]["metadata_percent"], pools[0]["data_percent"]) == (4.39, 0.73)
    found = {finding.key: finding.severity for finding in findings.pools(pools, set(), findings.Settings())}
    assert found == {
        "thin_pool/my-vg/my-pool/mode": "critical",
        "thin_pool/my-vg/my-pool/metadata": "critical",
        "thin_pool/a/full/mode": "critical",
        "thin_pool/a/full/data": "critical",
        "thin_pool/a/broken/mode": "critical",
    }


def test_zfs_is_full_when_nothing_is_available() -> None:
    from guest_watch import findings  # noqa: PLC0415

    sizes = findings.datasets("tank\t83886080\t0\nbig\t1\t99\n")
    found = findings.zfs(sizes, {"tank": "ONLINE", "big": "DEGRADED"}, set(), findings.Settings())
    assert [(f.key, f.severity) for f in found] == [("zpool/tank/space", "critical"), ("zpool/big/health", "warning")]


@pytest.mark.parametrize(
    ("percent", "raised", "severity"),
    [(79.9, False, ""), (80.0, False, "warning"), (78.5, True, "warning"), (77.9, True, ""), (95.0, False, "critical")],
)
def test_what_was_told_as_full_has_to_be_clearly_less_full(percent: float, raised: bool, severity: str) -> None:
    from guest_watch import findings  # noqa: PLC0415

    level = findings.Level("directory", "/a", "space", percent, "the space of /a", "do")
    found = findings.full(level, {"directory//a/space"} if raised else set(), findings.Settings())
    assert "".join(f.severity for f in found) == severity


def test_what_people_are_told_over_time() -> None:
    from guest_watch import alerts, findings  # noqa: PLC0415

    def finding(severity: str = "warning", grace_s: float = 0.0) -> Any:
        return findings.Finding("directory", "/a", "space", severity, f"it is {severity}", grace_s)

    book = alerts.Book(remind_s=100)
    told = [
        book.update([finding(grace_s=2)], 10),
        book.update([finding(grace_s=2)], 12),
        book.update([finding(grace_s=2)], 13),
        book.update([finding("critical")], 20),
        book.update([], 21, unknown=["directory"]),
    ]
    book = alerts.Book.from_json(book.to_json(), remind_s=100)
    told += [
        book.update([finding("critical")], 30),
        book.update([finding("critical")], 120),
        book.update([], 130),
        book.update([], 131),
    ]
    kinds = [[(event.event, event.seconds) for event in events] for events in told]
    assert kinds == [[], [("raised", 2)], [], [("changed", 10)], [], [], [("reminder", 110)], [("cleared", 120)], []]


def test_what_was_over_before_it_counted_is_never_told() -> None:
    from guest_watch import alerts, findings  # noqa: PLC0415

    book = alerts.Book()
    late = findings.Finding("guest", "1", "paused", "warning", "held", 60)
    assert book.update([late], 10) == book.update([], 11) == book.update([late], 60) == book.update([late], 119) == []
    assert [event.event for event in book.update([late], 120)] == ["raised"]
    assert book.update([late], 50) == [], "a clock that was set back"


def test_numbers_for_prometheus_are_escaped_and_each_name_comes_once() -> None:
    from guest_watch import textfile  # noqa: PLC0415

    looked = {
        "at": 1.5,
        "sees": {"guest": True},
        "guests": [{**WEB1, "name": 'a"b\\'}, {**WEB1, "vmid": 102, "qmpstatus": "io-error"}],
        "thin_pools": [{"name": "fast/pool", "data_percent": 0.73, "metadata_percent": 4.39}],
        "zpools": [{"name": "tank", "percent": 12.0}],
        "directories": {"/": {"space": 50.0, "inodes": 3.0}},
    }
    lines = textfile.render(textfile.samples(looked, [], 0)).splitlines()
    assert 'pvelab_guest_running{vmid="101",name="a\\"b\\\\"} 1' in lines
    assert 'pvelab_guest_running{vmid="102",name="web1"} 0' in lines
    assert 'pvelab_directory_used_percent{path="/",of="inodes"} 3' in lines
    typed = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(typed) == len(set(typed)) == len([line for line in lines if line.startswith("# HELP")])


def test_a_mail_is_handed_over(tmp_path: Path) -> None:
    from guest_watch import alerts, telling  # noqa: PLC0415

    from ansible_collections.pvelab.proxmox.tests.integration.watch_parts import MailServer  # noqa: PLC0415

    event = alerts.Event("raised", "guest/101/io-error", "critical", "guest 101 (wéb1) stands still.", 10.0, 20.0, 10.0)
    with MailServer() as server:
        send = telling.mail(["admin@example.com", "b@example.com"], "root", f"127.0.0.1:{server.port}")
        send(telling.message(event, "pve1"))
    assert server.receivers == ["admin@example.com", "b@example.com"]
    assert "[ALERT] pve1: guest 101 (wéb1) stands still." in server.subject()
    with pytest.raises(OSError, match=r"refused|Connection"):
        send(telling.message(event, "pve1"))


def test_a_receiver_that_speaks_no_http_is_tried_again(tmp_path: Path) -> None:
    from guest_watch import telling  # noqa: PLC0415

    said: list[Any] = []

    def channel(what: Any) -> None:
        said.append(what)
        if len(said) == 1:
            raise http.client.BadStatusLine("SSH-2.0")

    box = telling.Outbox(tmp_path / "webhook", channel)
    box.put({"number": 1})
    assert not box._send_all() and len(box.waiting()) == 1
    assert box._send_all() and box.waiting() == [] and said == [{"number": 1}] * 2


def test_of_too_many_messages_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guest_watch import telling  # noqa: PLC0415

    monkeypatch.setattr(telling, "MOST", 3)
    box = telling.Outbox(tmp_path / "webhook", lambda _what: None)
    for number in range(5):
        box.put({"number": number})
    assert [path.read_text() for path in box.waiting()] == ['{"number": 2}', '{"number": 3}', '{"number": 4}']
