# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether what was to be done was done, seen through somebody else's client. A time without that is worth nothing."""

from __future__ import annotations

from typing import Any

from ansible_collections.pvelab.proxmox.tests.bench.fleet import DRIFTED_MEMORY, MEMORY, NODE, SNAPSHOT, STORAGE, Fleet


class NotDone(Exception):
    """A client ended well and the node does not show it."""


class Checks:
    """Looks at the node through ``api``, which is proxmoxer's."""

    def __init__(self, api: Any, fleet: Fleet) -> None:
        self._node = api.nodes(NODE)
        self._fleet = fleet

    def drift(self) -> None:
        """Change a tenth of the guests behind everybody's back."""
        for vmid in self._fleet.drifting:
            self._node.qemu(vmid).config.put(memory=DRIFTED_MEMORY)

    def digests(self) -> dict[int, str]:
        """What tells one state of a guest's configuration from another."""
        return {vmid: str(self._node.qemu(vmid).config.get()["digest"]) for vmid in self._vmids()}

    def done(self, action: str, before: dict[int, str]) -> None:
        """Raises NotDone. ``before`` are the digests from before the action."""
        wanted = [] if action == "delete" else self._fleet.vmids
        self._same(f"{action}: guests", self._vmids(), wanted)
        disks = [v["volid"] for v in self._node.storage(STORAGE).content.get(content="images")]
        self._same(f"{action}: disks", len(disks), len(wanted) if self._fleet.disk_gib else 0)
        if action in ("create", "drift"):
            self._configured(action)
        elif action == "unchanged":
            self._same("unchanged: configurations", self.digests(), before)
        elif action == "snapshot":
            taken = [v for v in wanted if SNAPSHOT in {s["name"] for s in self._node.qemu(v).snapshot.get()}]
            self._same("snapshot: guests that have it", taken, wanted)

    def _configured(self, action: str) -> None:
        for vmid in self._fleet.vmids:
            form, config = self._fleet.form(vmid), self._node.qemu(vmid).config.get()
            plain = {key: value for key, value in form.items() if key not in ("net0", "scsi0")}
            seen = {key: type(value)(config.get(key, value.__class__())) for key, value in plain.items()}
            self._same(f"{action}: configuration of guest {vmid}", seen, plain)
            devices = {key for key in ("net0", "scsi0") if key in form}
            self._same(f"{action}: devices of guest {vmid}", devices & set(config), devices)
            self._same(f"{action}: lock of guest {vmid}", config.get("lock"), None)
            self._same(f"{action}: memory of guest {vmid}", int(config["memory"]), MEMORY)

    def _vmids(self) -> list[int]:
        return sorted(int(guest["vmid"]) for guest in self._node.qemu.get())

    @staticmethod
    def _same(what: str, seen: Any, wanted: Any) -> None:
        if seen != wanted:
            raise NotDone(f"{what}: there is {seen}, not {wanted}"[:2000])
