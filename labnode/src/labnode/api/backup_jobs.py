# SPDX-License-Identifier: GPL-3.0-or-later
"""/cluster/backup: backup jobs, kept in jobs.cfg (pve-manager, API2/Backup.pm)."""

from __future__ import annotations

import time
import uuid
from typing import Any

from labnode.calendar import CalendarError, next_run
from labnode.errors import ApiError, ParamError
from labnode.route import Ctx, route
from labnode.schema.formats import split_list
from labnode.sections import SectionFile
from labnode.store import Section

_SKIP = {"id", "starttime", "dow"}
_DAYS = "mon,tue,wed,thu,fri,sat,sun"


def _jobs(ctx: Ctx) -> SectionFile:
    return SectionFile(ctx.node.store, "etc/jobs.cfg", "/cluster/backup")


def _properties(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if "=" in part)


def _shown(file: SectionFile, job: Section) -> dict[str, Any]:
    shown = {"enabled": 1, **file.typed(job.options), "id": job.id, "type": job.type}
    for key in ("prune-backups", "fleecing", "performance"):
        if key in shown:
            shown[key] = _properties(shown[key])
    return shown


def _check(params: dict[str, Any]) -> dict[str, Any]:
    """Old starttime and dow become a schedule; what excludes each other is refused."""
    given = [key for key in ("all", "vmid", "pool") if params.get(key)]
    if len(given) > 1:
        raise ParamError({given[1]: f"only one of 'all', 'vmid' or 'pool' can be set, and '{given[0]}' is"})
    checked = dict(params)
    if "starttime" in params:
        days = ",".join(split_list(params.get("dow", _DAYS)))
        checked["schedule"] = f"{'' if days == _DAYS else days + ' '}{params['starttime']}"
    if "schedule" in checked:
        try:
            next_run(checked["schedule"], time.time())
        except CalendarError as err:
            raise ParamError(
                {"schedule": f"invalid format - invalid calendar event '{checked['schedule']}' - {err}\n"}
            ) from err
    return checked


@route("GET", "/cluster/backup")
async def backup_jobs(ctx: Ctx) -> list[dict[str, Any]]:
    """All jobs, each with the time of its next run."""
    file, rows = _jobs(ctx), []
    for job in file.load().values():
        if job.type != "vzdump":
            continue
        row = _shown(file, job)
        following = next_run(job.options["schedule"], time.time()) if "schedule" in job.options else None
        rows.append({**row, "next-run": following} if following else row)
    return rows


def _missing(ctx: Ctx) -> ApiError:
    return ParamError({"id": f"No such job '{ctx.params['id']}'"})


@route("GET", "/cluster/backup/{id}")
async def backup_job(ctx: Ctx) -> dict[str, Any]:
    """One job."""
    file = _jobs(ctx)
    job = file.load().get(ctx.params["id"])
    if job is None:
        raise _missing(ctx)
    return _shown(file, job)


@route("POST", "/cluster/backup")
async def create_job(ctx: Ctx) -> None:
    """A job; without an id it gets one of its own."""
    params = _check(ctx.params)
    if not any(params.get(key) for key in ("all", "vmid", "pool")):
        raise ParamError({"vmid": "property is missing and it is not optional; name guests, a pool or all"})
    if "storage" in params:
        ctx.node.storage.check(params["storage"], "backup")
    ident = params.get("id") or f"backup-{uuid.uuid4().hex[:8]}-{uuid.uuid4().hex[:4]}"
    params.setdefault("enabled", True)
    _jobs(ctx).create("vzdump", ident, params, taken=f"Job '{ident}' already exists", skip=_SKIP)


@route("PUT", "/cluster/backup/{id}")
async def update_job(ctx: Ctx) -> None:
    """Change a job."""
    params = _check(ctx.params)
    if "storage" in params:
        ctx.node.storage.check(params["storage"], "backup")
    for key in ("all", "vmid", "pool"):
        if params.get(key):
            others = {"all", "vmid", "pool"} - {key}
            params["delete"] = ",".join({*split_list(params.get("delete", "")), *others})
    _jobs(ctx).update(ctx.params["id"], params, missing=ApiError("no such vzdump job"), skip=_SKIP)


@route("DELETE", "/cluster/backup/{id}")
async def delete_job(ctx: Ctx) -> None:
    """Remove a job. Proxmox VE reports a missing one as an error within an error, with status 500."""
    missing = ApiError(f"400 Parameter verification failed.\nid: No such job '{ctx.params['id']}'")
    _jobs(ctx).delete(ctx.params["id"], missing=missing)


@route("GET", "/cluster/backup/{id}/included_volumes")
async def included_volumes(ctx: Ctx) -> dict[str, Any]:
    """Guests a job takes, each with its disks and whether they are part of the backup."""
    job = _jobs(ctx).load().get(ctx.params["id"])
    if job is None:
        raise _missing(ctx)
    children = [_guest_volumes(ctx, vmid) for vmid in included(ctx, job.options)]
    return {"children": children}


def _guest_volumes(ctx: Ctx, vmid: int) -> dict[str, Any]:
    main = ctx.node.guests.load(vmid).main
    disks = []
    for key, value in sorted(main.items()):
        if not key.startswith(("ide", "sata", "scsi", "virtio", "efidisk", "tpmstate")) or "media=cdrom" in value:
            continue
        if ":" not in value.split(",")[0]:
            continue
        skipped = "backup=0" in value.split(",")
        reason = "backup=no" if skipped else "enabled"
        disks.append({"id": key, "name": value.split(",")[0], "included": int(not skipped), "reason": reason})
    return {"id": vmid, "type": "qemu", "name": main.get("name", f"VM {vmid}"), "children": disks}


def included(ctx: Ctx, options: dict[str, str]) -> list[int]:
    """Guests that a job with these options takes."""
    known = ctx.node.guests.vmids()
    if options.get("all") == "1":
        left_out = {int(text) for text in split_list(options.get("exclude", ""))}
        return [vmid for vmid in known if vmid not in left_out]
    if "pool" in options:
        pool = ctx.node.auth.cfg.pools.get(options["pool"])
        return [vmid for vmid in known if pool and vmid in pool.vms]
    return [vmid for vmid in known if str(vmid) in split_list(options.get("vmid", ""))]


@route("GET", "/cluster/backup-info")
async def backup_info(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"subdir": "not-backed-up"}]


@route("GET", "/cluster/backup-info/not-backed-up")
async def not_backed_up(ctx: Ctx) -> list[dict[str, Any]]:
    """Guests that no job takes."""
    jobs = [job for job in _jobs(ctx).load().values() if job.type == "vzdump"]
    covered = {vmid for job in jobs for vmid in included(ctx, job.options)}
    rows = []
    for vmid in ctx.node.guests.vmids():
        if vmid not in covered and ctx.may(f"/vms/{vmid}", ["VM.Audit"]):
            rows.append({"vmid": vmid, "type": "qemu", "name": ctx.node.guests.load(vmid).main.get("name", "")})
    return rows


@route("GET", "/cluster/jobs")
async def jobs_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"subdir": "schedule-analyze"}, {"subdir": "realm-sync"}]


@route("GET", "/cluster/jobs/schedule-analyze")
async def analyze(ctx: Ctx) -> list[dict[str, Any]]:
    """The next runs of a schedule."""
    when = float(ctx.params.get("starttime", time.time()))
    rows = []
    for _ in range(ctx.params.get("iterations", 10)):
        try:
            following = next_run(ctx.params["schedule"], when)
        except CalendarError as err:
            raise ParamError({"schedule": f"invalid format - {err}\n"}) from err
        if following is None:
            break
        when = float(following)
        rows.append({"timestamp": following, "utc": time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(following))})
    return rows
