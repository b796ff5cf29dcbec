# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers for the textfile collector of Prometheus' node_exporter."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .alerts import Alert

HELP = {
    "pvelab_watch_last_look_timestamp_seconds": "When the watch looked last; old means that it stands still.",
    "pvelab_watch_sees": "Whether the watch could look at this source (node, thin_pool, zpool, directory).",
    "pvelab_watch_outbox_messages": "Messages that wait to be sent.",
    "pvelab_watch_alert": "1 for each alert that is open.",
    "pvelab_guest_running": "1 where QEMU runs the guest's processors; the process alone is not enough.",
    "pvelab_guest_write_operations": "Writes of a guest to all of its disks, as QEMU counts them.",
    "pvelab_thin_pool_data_percent": "How full a thin pool's data is.",
    "pvelab_thin_pool_metadata_percent": "How full a thin pool's metadata is.",
    "pvelab_zpool_used_percent": "How much of what a ZFS pool can hold is used.",
    "pvelab_directory_used_percent": "How full the file system of a directory is.",
}
Sample = tuple[str, Mapping[str, Any], float]


def samples(looked: Mapping[str, Any], alerts: Iterable[Alert], waiting: int) -> list[Sample]:
    """One look as numbers. ``looked`` has guests, thin_pools, zpools, directories, sees and at."""
    rows: list[Sample] = [("pvelab_watch_last_look_timestamp_seconds", {}, looked["at"])]
    rows += [("pvelab_watch_sees", {"source": name}, float(seen)) for name, seen in looked["sees"].items()]
    rows.append(("pvelab_watch_outbox_messages", {}, float(waiting)))
    for alert in alerts:
        if alert.told:
            kind, _slash, rest = alert.key.partition("/")
            condition = rest.rpartition("/")[2]
            labels = {"kind": kind, "condition": condition, "severity": alert.severity, **alert.labels}
            rows.append(("pvelab_watch_alert", labels, 1.0))
    for guest in looked["guests"]:
        labels = {"vmid": guest["vmid"], "name": guest.get("name", "")}
        rows.append(("pvelab_guest_running", labels, float(guest.get("qmpstatus") == "running")))
        writes = sum(int(disk.get("wr_operations", 0)) for disk in (guest.get("blockstat") or {}).values())
        rows.append(("pvelab_guest_write_operations", labels, float(writes)))
    for pool in looked["thin_pools"]:
        for part in ("data", "metadata"):
            if f"{part}_percent" in pool:
                rows.append((f"pvelab_thin_pool_{part}_percent", {"name": pool["name"]}, pool[f"{part}_percent"]))
    rows += [("pvelab_zpool_used_percent", {"name": pool["name"]}, pool["percent"]) for pool in looked["zpools"]]
    for path, parts in looked["directories"].items():
        rows += [("pvelab_directory_used_percent", {"path": path, "of": of}, used) for of, used in parts.items()]
    return rows


def render(rows: Iterable[Sample]) -> str:
    """The text format, version 0.0.4: every name once, with its help and type."""
    by_name: dict[str, list[str]] = {}
    for name, labels, value in rows:
        inside = ",".join(f'{key}="{_escape(str(text))}"' for key, text in labels.items())
        by_name.setdefault(name, []).append(f"{name}{{{inside}}} {value:.15g}" if inside else f"{name} {value:.15g}")
    lines: list[str] = []
    for name, found in by_name.items():
        kind = "counter" if name == "pvelab_guest_write_operations" else "gauge"
        lines += [f"# HELP {name} {HELP[name]}", f"# TYPE {name} {kind}", *found]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def write(path: Path, text: str) -> None:
    """Replace the file at once, readable by the exporter."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(0o644)
    os.replace(draft, path)
