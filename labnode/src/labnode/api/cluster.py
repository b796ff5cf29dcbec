# SPDX-License-Identifier: GPL-3.0-or-later
"""/cluster: resources, status, options, free ids (pve-manager, API2/Cluster.pm and ClusterConfig.pm)."""

from __future__ import annotations

import re
import time
from typing import Any

from labnode.errors import ApiError, NotImplementedHere, ParamError
from labnode.options import change_options, parse_options
from labnode.resources import guest_rows, node_row, seen_by, storage_rows
from labnode.route import Ctx, route
from labnode.schema.formats import split_list
from labnode.schema.table import table
from labnode.sections import SectionFile
from labnode.tasks import Entry

DATACENTER = "etc/datacenter.cfg"
MAC_PREFIX = "BC:24:11"
_PUBLIC_OPTIONS = ("console", "tag-style")
_FIRST_VMID, _LAST_VMID = 100, 1000000


def _below(prefix: str) -> list[str]:
    depth = prefix.count("/") + 1
    return sorted({path.split("/")[depth] for path in table().paths() if path.startswith(f"{prefix}/")})


@route("GET", "/cluster")
async def cluster_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"name": name} for name in _below("/cluster")]


@route("GET", "/cluster/resources")
async def resources(ctx: Ctx) -> list[dict[str, Any]]:
    """Pools, guests, the node, storages and networks that the caller may see."""
    kind = ctx.params.get("type")
    rows: list[dict[str, Any]] = []
    if kind is None:
        pools = [name for name in sorted(ctx.node.auth.cfg.pools) if ctx.may(f"/pool/{name}", ["Pool.Audit"])]
        rows += [{"id": f"/pool/{name}", "pool": name, "type": "pool"} for name in pools]
    if kind in (None, "vm"):
        guests = [row for row in await guest_rows(ctx.node) if ctx.may(f"/vms/{row['vmid']}", ["VM.Audit"])]
        rows += [seen_by(ctx, row) for row in guests]
    if kind in (None, "node"):
        rows.append({**seen_by(ctx, node_row(ctx.node, ctx.node.system)), "cgroup-mode": 2})
    if kind in (None, "storage"):
        stores = await storage_rows(ctx.node)
        rows += [row for row in stores if ctx.may(f"/storage/{row['storage']}", ["Datastore.Audit"])]
    if kind in (None, "sdn") and ctx.may("/sdn/zones/localnetwork", ["SDN.Audit"]):
        rows.append(_local_network(ctx.node.name))
    return rows


def _local_network(node: str) -> dict[str, Any]:
    return {
        "id": f"network/{node}/zone/localnetwork",
        "network": "localnetwork",
        "network-type": "zone",
        "node": node,
        "status": "ok",
        "type": "network",
    }


@route("GET", "/cluster/status")
async def status(ctx: Ctx) -> list[dict[str, Any]]:
    """The one node; there is no cluster."""
    name = ctx.node.name
    return [
        {
            "id": f"node/{name}",
            "type": "node",
            "name": name,
            "ip": ctx.node.settings.host,
            "level": "",
            "local": 1,
            "nodeid": 0,
            "online": 1,
        }
    ]


@route("GET", "/cluster/nextid")
async def nextid(ctx: Ctx) -> str:
    """The lowest free guest id within ``next-id``, or the given one if it is free. Nothing is reserved."""
    taken = set(ctx.node.guests.vmids())
    if "vmid" in ctx.params:
        vmid = ctx.params["vmid"]
        if vmid in taken:
            raise ParamError({"vmid": f"VM {vmid} already exists"})
        return str(vmid)
    bounds = dict(re.findall(r"(lower|upper)=(\d+)", ctx.node.guests.datacenter().get("next-id", "")))
    lower, upper = int(bounds.get("lower", _FIRST_VMID)), int(bounds.get("upper", _LAST_VMID))
    free = next((vmid for vmid in range(lower, upper) if vmid not in taken), None)
    if free is None:
        raise ApiError(f"unable to get any free VMID in range [{lower}, {upper - 1}]")
    return str(free)


def _tags(ctx: Ctx) -> list[str]:
    """Tags in use on guests the caller may see, and those registered for all."""
    found = set(split_list(ctx.node.guests.datacenter().get("registered-tags", "")))
    for vmid in ctx.node.guests.vmids():
        if ctx.may(f"/vms/{vmid}", ["VM.Audit"]):
            found |= set(split_list(ctx.node.guests.load(vmid).main.get("tags", "")))
    return sorted(found)


@route("GET", "/cluster/options")
async def options(ctx: Ctx) -> dict[str, Any]:
    """Options of the datacenter; without Sys.Audit only those that everyone's user interface needs."""
    stored = parse_options(ctx.node.store.read(DATACENTER))
    if ctx.may("/", ["Sys.Audit"]):
        shown: dict[str, Any] = {"description": "", "mac_prefix": MAC_PREFIX, **stored}
    else:
        shown = {key: stored[key] for key in _PUBLIC_OPTIONS if key in stored}
    return {**shown, "allowed-tags": _tags(ctx)}


@route("PUT", "/cluster/options")
async def set_options(ctx: Ctx) -> None:
    """Set and unset options of the datacenter."""
    change_options(ctx.node.store, DATACENTER, ctx.params)


@route("GET", "/cluster/log")
async def log(ctx: Ctx) -> list[dict[str, Any]]:
    """The newest messages: starts and ends of tasks."""
    tasks = ctx.node.tasks
    entries = [*tasks.active(), *tasks.archive()][: ctx.params.get("max", 50)]
    return [_message(ctx, number, entry) for number, entry in enumerate(entries)]


def _message(ctx: Ctx, number: int, entry: Entry) -> dict[str, Any]:
    upid = entry.upid
    text = f"starting task {upid}" if entry.endtime is None else f"end task {upid} {entry.status}"
    when = entry.endtime or upid.starttime
    good = entry.status in (None, "OK")
    return {
        "uid": number, "id": f"{number}:{ctx.node.name}", "node": ctx.node.name, "pid": upid.pid, "user": upid.user,
        "tag": "labnode", "pri": 6 if good else 3, "time": when, "msg": text,
    }  # fmt: skip


@route("GET", "/cluster/config")
async def config_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"name": name} for name in ("nodes", "totem", "join", "qdevice", "apiversion")]


@route("GET", "/cluster/config/apiversion")
async def config_version(ctx: Ctx) -> int:
    """Version of the interface by which nodes join a cluster."""
    return 1


@route("GET", "/cluster/config/nodes")
async def config_nodes(ctx: Ctx) -> list[dict[str, str]]:
    """Members of the cluster: none, there is no cluster."""
    return []


@route("GET", "/cluster/config/totem")
async def config_totem(ctx: Ctx) -> dict[str, Any]:
    """Corosync's settings: none."""
    return {}


@route("GET", "/cluster/config/qdevice")
async def config_qdevice(ctx: Ctx) -> dict[str, Any]:
    """The quorum device: none."""
    return {}


@route("GET", "/cluster/config/join")
async def config_join(ctx: Ctx) -> None:
    """Refused: there is no cluster to join."""
    raise ApiError("node is not in a cluster, no join info available!", 424)


@route("POST", "/cluster/config")
async def config_create(ctx: Ctx) -> None:
    """Refused: labnode is one node."""
    raise NotImplementedHere("labnode cannot create a cluster: it is a single node")


def replication_file(ctx: Ctx) -> SectionFile:
    """Replication jobs."""
    return SectionFile(ctx.node.store, "etc/replication.cfg", "/cluster/replication")


@route("GET", "/cluster/replication")
async def replication(ctx: Ctx) -> list[dict[str, Any]]:
    """Replication jobs; there is no second node, so there are none."""
    jobs = replication_file(ctx)
    return [{"id": job.id, "type": job.type, **jobs.typed(job.options)} for job in jobs.load().values()]


@route("POST", "/cluster/replication")
async def create_replication(ctx: Ctx) -> None:
    """Refused as Proxmox VE refuses a target that is no other node of the cluster."""
    target = ctx.params["target"]
    if target == ctx.node.name:
        raise ApiError("create replication job failed: source and target node are the same")
    raise ApiError(f"create replication job failed: node '{target}' does not exist")


@route("GET", "/cluster/metrics")
async def metrics_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    return [{"name": name} for name in ("server", "export")]


@route("GET", "/cluster/metrics/export")
async def metrics_export(ctx: Ctx) -> dict[str, Any]:
    """Present values of node, guests and storages as ``{id, metric, timestamp, type, value}``."""
    now = int(time.time())
    rows = [node_row(ctx.node, ctx.node.system), *await guest_rows(ctx.node), *await storage_rows(ctx.node)]
    data = []
    for row in rows:
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float) and key != "vmid"}
        data += [
            {"id": row["id"], "metric": key, "timestamp": now, "type": "gauge", "value": value}
            for key, value in sorted(numbers.items())
        ]
    return {"data": data}
