# SPDX-License-Identifier: GPL-3.0-or-later
"""Journals of drills as a run leaves them, with their samples: one that passed, one refuted, one that never began."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

# Seconds of CLOCK_MONOTONIC: the run begins, t0, t_f, t_d, t_pve, t_r, t_s, t_v, and the run ends.
BEGAN, INJECT, EFFECT, DETECTED, API, RECOVER, RESTORED, VERIFIED, ENDED = (
    5123.2, 5138.0, 5140.1, 5141.0, 5147.3, 5155.9, 5159.3, 5164.0, 5166.5,
)  # fmt: skip
STATES = ("preflight", "baseline", "arm", "inject", "observe", "relieve", "recover", "verify", "disarm", "report")
HOSTILE = """</title></style><script>alert(1)</script>"><img src=x onerror='a()'>&amp;|`*_[x](http://evil.example)"""
INJECTION = """\
free=$(df --output=avail -B1 /srv/files | tail -n 1)
fallocate -l "$free" /srv/files/pvelab-filler
"""
UNDO = """\
rm -f /srv/files/pvelab-filler
/usr/bin/python3 /usr/local/lib/pvelab/drill.pyz restore plan.json 103
"""
DRILL = {
    "name": "storage_full",
    "title": "A directory storage fills up",
    "hypothesis": "When the storage of a guest's disk is full, then that guest stops with io-error and loses "
    "nothing, its neighbours go on, and it goes on itself after space is freed and it is resumed.",
    "blast_radius": "storage",
    "learn": [
        "Proxmox VE calls a guest in io-error running; only its qmpstatus tells.",
        "Freeing space is not enough: the guest has to be resumed.",
    ],
    "remedy": "Free space, then resume the guest with qm resume 103.",
}
HOST = {
    "name": "pve1",
    "machine_id": "5f2c9d8a0f4f4c7f8a100b0ce0a16a04",
    "boot_id_before": "0b9d7f0e-6a55-4bb0-8f0c-6f1f9f2b1c11",
    "boot_id_after": "0b9d7f0e-6a55-4bb0-8f0c-6f1f9f2b1c11",
    "kernel": "6.12.107+deb13-amd64",
    "qemu": "10.0.3",
    "pve": "9.1.4",
    "cpus": 1,
    "memory_mib": 3900,
}
PLAN = {
    "fault": {"kind": "directory_full", "options": {"path": "/srv/files"}},
    "targets": ["guest 103 (db1)", "/srv/files"],
    "victims": [103],
    "bystanders": [101, 102],
    "inject": INJECTION,
    "undo": UNDO,
    "limits": {
        "baseline_s": 10,
        "observe_s": 30,
        "hold_s": 5,
        "recover_s": 60,
        "verify_s": 60,
        "undo_after_s": 120,
        "answer_s": 10,
        "blind_s": 2,
    },
}
PSI_US = {"cpu": 20_000, "memory": 2_000, "io": 15_000}


def storage_full(run: str = "20261122T021500Z-storage_full-1a2b3c") -> dict[str, Any]:
    """Passed: the victim stood still for 19.2 s in io-error, two bystanders noticed nothing."""
    marks = (INJECT, EFFECT, DETECTED, API, RECOVER, RESTORED, VERIFIED)
    names = ("inject", "effect", "detected", "api", "recover", "restored", "verified")
    return sealed(
        {
            **_frame(
                run, "passed", "Guest 103 stopped with io-error, went on after space was freed, and lost no write."
            ),
            "guards": [
                guard("no job runs", "0 active tasks", "wait for the task to end"),
                guard("no unlisted guest runs", "all that run are listed", "list it, or stop it"),
                guard(
                    "the victims are tagged", "all have drill-ok", "add the tag drill-ok to each guest that may suffer"
                ),
                guard("the host has room", "1204 MiB of memory, 9120 MiB below /var/lib", "free some"),
            ],
            "states": _states(),
            "events": [
                event(INJECT, "runner", "the fault begins"),
                event(DETECTED, "qmp", "BLOCK_IO_ERROR on drive-scsi0, nospace", 103),
                event(API, "api", "guest 103 is io-error, as the node says", 103),
                event(RECOVER, "runner", "recovery begins"),
            ],
            "marks": dict(zip(names, marks, strict=True)),
            "metrics": {"time_to_detect_s": 0.9, "blind_s": 7.2, "time_to_recover_s": 3.4, "outage_s": 19.2},
            "guests": [
                guest(103, "db1", "victim", [(EFFECT, RESTORED)], acked=96),
                guest(101, "web1", "bystander", [], acked=420),
                guest(102, "dns1", "bystander", [], acked=418),
            ],
            "signature": [
                sign("guest 103 is in io-error", DETECTED, "qmpstatus io-error"),
                sign("no space is left below /srv/files", EFFECT, "99.9 % used"),
            ],
            "undo": _undo(),
        },
        samples(stalled=True),
    )


def refuted(run: str = "20261123T021500Z-storage_full-2b3c4d") -> dict[str, Any]:
    """Refuted: a bystander stood still, too, and the API of the node did not answer for a while."""
    journal = storage_full(run)
    journal.update(
        began_utc="2026-11-23T02:15:00Z",
        ended_utc="2026-11-23T02:15:43.300Z",
        clock={"monotonic": BEGAN, "utc": "2026-11-23T02:15:00.000Z"},
        verdict="hypothesis_refuted",
        because="guest 101 stood still for 6.0 s, which was not to be.",
        metrics={"time_to_detect_s": 0.9, "blind_s": None, "time_to_recover_s": 3.4, "outage_s": 19.2},
        recorder={"hz": 10, "samples": 420, "gaps": [{"from": 5149.0, "to": 5150.6}], "cpu_share": 0.02},
    )
    journal["marks"]["api"] = None
    journal["guests"][1] = guest(101, "web1", "bystander", [(5148.0, 5154.0)], acked=360)
    return sealed(journal, samples(stalled=True, silent_api=True))


def watched(told: float | None, run: str = "20261126T021500Z-storage_full-5e6f7a") -> dict[str, Any]:
    """Passed, on a host whose guest_watch ``told`` so many seconds after the first effect, or (None) said nothing."""
    journal = storage_full(run)
    at = None if told is None else round(EFFECT + told, 3)
    said = "raised: guest 103 (db1) is called running and stands still (io-error): free some space, then resume it."
    return {
        **journal,
        "events": [*journal["events"], *([event(at, "guest_watch", said, 103)] if at is not None else [])],
        "marks": {**journal["marks"], "watch": at},
        "metrics": {**journal["metrics"], "watch_s": told},
    }


def outside(run: str = "20261127T021500Z-hypervisor_crash-6f7a8b") -> dict[str, Any]:
    """Passed: the host lost its power, and was seen to be away from the controller. It asked a guest itself, too."""
    journal = storage_full(run)
    began, back = INJECT + 0.4, INJECT + 16.9
    answers = [probe("API", "192.0.2.5:8006", "https", 0.1, [(began, back, "silent")])]
    answers += [probe("SSH", "192.0.2.5:22", "banner", 3.3333, [(began + 1.9, back - 2.0, "silent")])]
    never = {**probe("db1", "10.10.10.13", "ping", 0.1, []), "host": False, "answered": 0, "usual_ms": None}
    web = {**probe("web1", "10.10.10.11:80", "tcp", 0.1, [(EFFECT, EFFECT + 2.5, "refused"), (API, None, "late")])}
    journal.update(
        probes=[{**web, "host": False}],
        vantage={
            "name": "the controller",
            "offset_s": -40211.0381,
            "error_s": 0.0121,
            "drift_s": -0.0418,
            "exchanges": 212,
            "from": BEGAN - 1.0,
            "to": ENDED + 1.0,
            "gaps": [{"from": BEGAN + 4.0, "to": BEGAN + 5.1}],
            "away": [{"from": began, "to": back, "s": 16.5}],
            "probes": [*answers, never],
        },
        recorder={"hz": 10, "samples": 300, "gaps": [{"from": INJECT + 0.3, "to": INJECT + 15.0}], "cpu_share": 0.01},
    )
    journal["events"].append(event(began, "vantage", "API (192.0.2.5:8006) is silent, seen from the controller"))
    return sealed(journal, samples(stalled=True, more=True))


def probe(
    name: str, address: str, kind: str, every_s: float, outages: list[tuple[float, float | None, str]]
) -> dict[str, Any]:
    rows = [
        {"from": since, "to": until, "s": None if until is None else round(until - since, 3), "why": why}
        for since, until, why in outages
    ]
    out = round(sum((until or ENDED) - since for since, until, _why in outages), 3)
    return {
        **{"name": name, "kind": kind, "address": address, "host": True, "every_s": every_s},
        **{"tried": 433, "answered": 250, "usual_ms": 4.2, "outages": rows, "outage_s": out},
    }


def relieved(run: str = "20261125T021500Z-cpu_overcommit-4d5e6f") -> dict[str, Any]:
    """Passed: the victim was slow, and what an operator did while the fault was there helped it."""
    journal = storage_full(run)
    began = 5149.0
    *ahead, observe, recover, verify, disarm, report = journal["states"]
    helped = state("relieve", began, RECOVER)
    slow = guest(103, "db1", "victim", [], acked=410)
    slow["latency_ms"].update(
        fault={"n": 90, "p50": 21.4, "p99": 80.0, "max": 96.0}, relief={"n": 60, "p50": 3.6, "p99": 12.0, "max": 15.5}
    )
    journal.update(
        because="The fault was seen, its signs were seen, the remedy helped, and no write is missing.",
        plan={**PLAN, "relief": "echo 10000 > /sys/fs/cgroup/qemu.slice/103.scope/cpu.weight\n"},
        states=[*ahead, {**observe, "ended": began}, helped, recover, verify, disarm, report],
        marks={**journal["marks"], "relief": began},
        guests=[slow, *journal["guests"][1:]],
        signature=[*journal["signature"], sign("writes of guest 103 are quick again", 5151.5, "4 ms instead of 21 ms")],
    )
    return sealed(journal, samples(stalled=False))


def aborted(run: str = "20261124T021500Z-storage_full-3c4d5e") -> dict[str, Any]:
    """Never begun: a backup was running. There are no samples."""
    refusal = "Nothing was touched: no job runs? no (1 active task: vzdump 103): wait for the task to end"
    return {
        **_frame(run, "aborted_preflight", refusal),
        "ended_utc": "2026-11-22T02:15:00.800Z",
        "guards": [
            guard("no unlisted guest runs", "all that run are listed", "list it, or stop it"),
            {**guard("no job runs", "1 active task: vzdump 103", "wait for the task to end"), "ok": False},
        ],
        "states": [
            state("preflight", BEGAN, BEGAN + 0.8, ok=False, text="no job runs? no (1 active task: vzdump 103)")
        ],
        "undo": {"unit": "", "rehearsed": False, "armed": None, "fired": False, "due": None},
        "residue": {"checked": [], "left": []},
        "recorder": None,
    }


def cut(journal: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one thing in another way, such as "guests/0/vmid"; ``...`` takes it away."""
    copy: dict[str, Any] = json.loads(json.dumps(journal))
    *parents, leaf = [int(key) if key.isdigit() else key for key in path.split("/")]
    level: Any = copy
    for parent in parents:
        level = level[parent]
    if value is ...:
        del level[leaf]
    else:
        level[leaf] = value
    return copy


def hostile(value: Any, key: str = "") -> Any:
    """A journal in which every free text is hostile, and so is the name of everything that has one."""
    if isinstance(value, dict):
        return {name: hostile(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [hostile(inner, key) for inner in value]
    fixed = {"schema", "verdict", "began_utc", "ended_utc", "utc", "blast_radius", "role", "probe", "source"}
    phase = value in STATES
    return HOSTILE if isinstance(value, str) and key not in fixed and not phase else value


def samples(*, stalled: bool, silent_api: bool = False, more: bool = False) -> str:
    """Ten a second from the beginning to the end of a run; ``more``: with swap space, what waits to be written, KSM."""
    rows = [row | (_more(step) if more else {}) for step, row in enumerate(_rows(stalled, silent_api))]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _more(step: int) -> dict[str, Any]:
    memory = {"swap_free_mib": 900 - step, "dirty_mib": step % 30, "writeback_mib": 0, "probes": {"web1": 0.4}}
    slow = {"ksm": {"sharing_mib": step / 4, "profit_mib": step / 5 - 2}, "oom_kills": 0, "load": 0.4, "node": "online"}
    return memory | (slow if step % 10 == 0 else {})


def sealed(journal: dict[str, Any], text: str) -> dict[str, Any]:
    """The journal with the checksum of its samples."""
    data = text.encode()
    return {
        **journal,
        "evidence": [
            {"name": "samples.jsonl", "sha256": sha256(data).hexdigest(), "bytes": len(data)},
            {"name": "undo.sh", "sha256": sha256(b"undo").hexdigest(), "bytes": 412},
        ],
    }


def guard(name: str, value: str, remedy: str) -> dict[str, Any]:
    return {"name": name, "ok": True, "value": value, "remedy": remedy}


def state(name: str, began: float, ended: float, *, ok: bool = True, text: str = "") -> dict[str, Any]:
    return {"name": name, "began": began, "ended": ended, "ok": ok, "text": text}


def event(at: float, source: str, text: str, vmid: int | None = None) -> dict[str, Any]:
    return {"at": at, "source": source, "guest": vmid, "text": text}


def sign(name: str, at: float, evidence: str) -> dict[str, Any]:
    return {"name": name, "seen": True, "at": at, "evidence": evidence}


def guest(vmid: int, name: str, role: str, outages: list[tuple[float, float]], acked: int) -> dict[str, Any]:
    out = round(sum(until - since for since, until in outages), 3)
    calm = {"n": 100, "p50": 3.1, "p99": 9.9, "max": 14.2}
    return {
        "vmid": vmid,
        "name": name,
        "role": role,
        "probe": "canary",
        "outages": [{"from": since, "to": until, "s": round(until - since, 3)} for since, until in outages],
        "outage_s": out,
        "longest_gap_s": out or 0.3,
        "latency_ms": {
            "baseline": calm,
            "fault": None if outages else {**calm, "p99": 31.0, "max": 44.5},
            "after": calm,
        },
        "canary": {
            "acked": acked,
            "checked": True,
            "lost": [],
            "corrupt": [],
            "errors": {},
            "rpo_records": 0,
            "rpo_s": 0.0,
            "boots": 1,
        },
    }


def _frame(run: str, verdict: str, because: str) -> dict[str, Any]:
    """What all journals have in common."""
    marks = ("inject", "effect", "detected", "api", "recover", "restored", "verified")
    return {
        "schema": "pvelab-drill-journal/1",
        "run": run,
        "began_utc": "2026-11-22T02:15:00Z",
        "ended_utc": "2026-11-22T02:15:43.300Z",
        "clock": {"monotonic": BEGAN, "utc": "2026-11-22T02:15:00.000Z"},
        "drill": DRILL,
        "host": HOST,
        "plan": PLAN,
        "events": [],
        "marks": dict.fromkeys(marks),
        "metrics": dict.fromkeys(("time_to_detect_s", "blind_s", "time_to_recover_s", "outage_s")),
        "guests": [],
        "signature": [],
        "residue": {"checked": ["systemd units", "files below /srv/files", "tc qdiscs"], "left": []},
        "recorder": {"hz": 10, "samples": 433, "gaps": [], "cpu_share": 0.011},
        "verdict": verdict,
        "because": because,
        "evidence": [],
    }


def _states() -> list[dict[str, Any]]:
    ends = (5124.0, 5135.0, INJECT, 5138.2, RECOVER, 5156.4, VERIFIED, 5166.0, ENDED)
    names = ("preflight", "baseline", "arm", "inject", "observe", "recover", "verify", "disarm", "report")
    return [state(name, began, end) for name, began, end in zip(names, (BEGAN, *ends), ends, strict=False)]


def _undo() -> dict[str, Any]:
    unit = "pvelab-undo-20261122T021500Z-storage_full-1a2b3c.timer"
    return {"unit": unit, "rehearsed": True, "armed": 5137.6, "fired": False, "due": 5257.6}


def _rows(stalled: bool, silent_api: bool) -> Iterator[dict[str, Any]]:
    total = {"cpu": 1_000_000, "memory": 50_000, "io": 400_000}
    for step in range(433):
        at = round(BEGAN + step / 10, 3)
        out = stalled and EFFECT <= at < RESTORED
        total = {name: total[name] + (us * 4 if out and name != "cpu" else us) for name, us in PSI_US.items()}
        moved = min(step, round((EFFECT - BEGAN) * 10)) + max(0, round((at - RESTORED) * 10)) if stalled else step
        yield {
            "at": at,
            "psi": total,
            "mem_available_mib": 1200 - step % 40,
            "guests": {
                "103": {"alive": True, "status": "io-error" if out else "running", "acks": moved // 3},
                "101": {"alive": True, "status": "running", "acks": step},
                "102": {"alive": True, "status": "running", "acks": step},
            },
            "fill": {"/srv/files": 99.9 if INJECT <= at < RECOVER else 41.2, "thin fast/data": 12.0},
            "api": not (silent_api and API <= at < RECOVER),
        }
