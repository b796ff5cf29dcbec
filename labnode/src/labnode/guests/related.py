# SPDX-License-Identifier: GPL-3.0-or-later
"""What else knows of a guest: its pool, ACLs, firewall rules, the HA manager, backup jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labnode.errors import ApiError
from labnode.guests.propstring import split_list
from labnode.ha import RESOURCES as HA
from labnode.store import Section, parse_sections, render_sections

if TYPE_CHECKING:
    from labnode.guests.service import GuestService

JOBS = "etc/jobs.cfg"


def check_pool(g: GuestService, pool: str) -> None:
    """ApiError when there is no such pool."""
    if pool not in g.node.auth.cfg.pools:
        raise ApiError(f"pool '{pool}' does not exist")


def add_to_pool(g: GuestService, vmid: int, pool: str) -> None:
    """Make the guest a member of the pool."""
    check_pool(g, pool)
    g.node.auth.cfg.pools[pool].vms.add(vmid)
    g.node.auth.save()


def forget(g: GuestService, vmid: int) -> None:
    """A guest is gone: its pool membership, its ACLs and its firewall rules go too."""
    if g.node.auth.cfg.drop_guest(vmid):
        g.node.auth.save()
    g.store.remove(f"etc/firewall/{vmid}.fw")


def ha_state(g: GuestService, vmid: int) -> str | None:
    """The state asked of the HA manager for this guest, None when it does not manage it."""
    found = _resources(g).get(str(vmid))
    return found.options.get("state", "started") if found else None


def ha_managed(g: GuestService, vmid: int) -> bool:
    """Whether power changes of this guest go through the HA manager."""
    return ha_state(g, vmid) not in (None, "ignored")


def set_ha(g: GuestService, vmid: int, state: str) -> None:
    """Ask the HA manager for a state of the guest, which it manages from then on."""
    resources = _resources(g)
    resources.setdefault(str(vmid), Section("vm", str(vmid))).options["state"] = state
    g.store.write(HA, render_sections(resources))


def purge(g: GuestService, vmid: int) -> None:
    """Take the guest out of HA and of every backup job that names it; a job left without guests goes."""
    resources = _resources(g)
    if resources.pop(str(vmid), None):
        g.store.write(HA, render_sections(resources))
    jobs = parse_sections(g.store.read(JOBS))
    before = render_sections(jobs)
    for ident, job in list(jobs.items()):
        if not _without(job, str(vmid)):
            del jobs[ident]
    if render_sections(jobs) != before:
        g.store.write(JOBS, render_sections(jobs))


def _without(job: Section, vmid: str) -> bool:
    """Strike a guest off a backup job; False when the job named it alone."""
    for key in ("vmid", "exclude"):
        named = split_list(job.options.get(key, ""))
        if vmid not in named:
            continue
        job.options[key] = ",".join(item for item in named if item != vmid)
        if not job.options[key]:
            del job.options[key]
            if key == "vmid":
                return False
    return True


def _resources(g: GuestService) -> dict[str, Section]:
    return {k: s for k, s in parse_sections(g.store.read(HA)).items() if s.type in ("vm", "ct")}
