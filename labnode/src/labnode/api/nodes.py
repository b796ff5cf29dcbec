# SPDX-License-Identifier: GPL-3.0-or-later
"""/version and /nodes: what the node is and how it does, read from the machine (pve-manager, API2/Nodes.pm)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from labnode import RELEASE, REPOID, VERSION
from labnode.dispatch import call
from labnode.errors import Forbidden, ParamError
from labnode.guests import lifecycle
from labnode.options import change_options, check_digest, parse_options
from labnode.resources import guest_rows, node_row, seen_by
from labnode.route import Ctx, route
from labnode.schema.formats import split_list
from labnode.schema.table import table
from labnode.tasks import Task
from labnode.tls import fingerprint


@route("GET", "/version")
async def version(ctx: Ctx) -> dict[str, str]:
    """The release of the API that labnode answers as."""
    return {"release": RELEASE, "version": VERSION, "repoid": REPOID}


@route("GET", "/nodes/{node}/version")
async def node_version(ctx: Ctx) -> dict[str, str]:
    """As ``/version``."""
    return await version(ctx)


@route("GET", "/nodes")
async def nodes(ctx: Ctx) -> list[dict[str, Any]]:
    """The one node."""
    row = seen_by(ctx, node_row(ctx.node, ctx.node.system))
    cert = ctx.node.store.path(ctx.node.etc("pve-ssl.pem"))
    return [{**row, "ssl_fingerprint": fingerprint(cert)}]


@route("GET", "/nodes/{node}")
async def node_index(ctx: Ctx) -> list[dict[str, str]]:
    """What there is below."""
    names = {path.split("/")[3] for path in table().paths() if path.startswith("/nodes/{node}/")}
    return [{"name": name} for name in sorted(names)]


@route("GET", "/nodes/{node}/status")
async def status(ctx: Ctx) -> dict[str, Any]:
    """CPU, memory, load and file system of the machine."""
    system = ctx.node.system
    kernel = system.kernel()
    return {
        "boot-info": {"mode": system.boot_mode()},
        "cpu": system.cpu(),
        "cpuinfo": system.cpuinfo(),
        "current-kernel": kernel,
        "idle": 0,
        "ksm": {"shared": system.ksm_shared()},
        "kversion": f"{kernel['sysname']} {kernel['release']} {kernel['version']}",
        "loadavg": system.load(),
        "memory": system.memory(),
        "pveversion": f"pve-manager/{VERSION}/{REPOID}",
        "rootfs": system.disk(ctx.node.state_dir),
        "swap": system.swap(),
        "uptime": system.uptime(),
        "wait": system.iowait(),
    }


@route("GET", "/nodes/{node}/dns")
async def dns(ctx: Ctx) -> dict[str, str]:
    """Name servers (up to three) and search domain: the node's own once set, those of the machine before."""
    found = {"search": ""}
    servers = 0
    for line in _own_or_system(ctx, "resolv.conf").splitlines():
        key, _, value = line.strip().partition(" ")
        if key in ("search", "domain"):
            found["search"] = value.strip().split()[0]
        elif key == "nameserver" and servers < 3:
            servers += 1
            found[f"dns{servers}"] = value.strip()
    return found


def _own_or_system(ctx: Ctx, name: str) -> str:
    rel = ctx.node.etc(name)
    return ctx.node.store.read(rel) if ctx.node.store.exists(rel) else _machine_file(f"/etc/{name}")


def _machine_file(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as source:
            return source.read()
    except OSError:
        return ""


@route("PUT", "/nodes/{node}/dns")
async def set_dns(ctx: Ctx) -> None:
    """Set name servers and search domain of the node (kept in its state; the machine's own are left alone)."""
    lines = [f"search {ctx.params['search']}"]
    lines += [f"nameserver {ctx.params[key]}" for key in ("dns1", "dns2", "dns3") if key in ctx.params]
    ctx.node.store.write(ctx.node.etc("resolv.conf"), "\n".join(lines) + "\n")


@route("GET", "/nodes/{node}/time")
async def show_time(ctx: Ctx) -> dict[str, Any]:
    """Seconds since the epoch, and local seconds."""
    now = time.time()
    zone = ctx.node.store.read(ctx.node.etc("timezone")).strip() or ctx.node.system.timezone()
    offset = time.localtime(now).tm_gmtoff
    return {"time": int(now), "localtime": int(now) + offset, "timezone": zone}


@route("PUT", "/nodes/{node}/time")
async def set_timezone(ctx: Ctx) -> None:
    """Set the time zone of the node (kept in its state)."""
    zone = ctx.params["timezone"]
    if zone != "UTC" and not _machine_file(f"/usr/share/zoneinfo/{zone}".replace("..", "")).startswith("TZif"):
        raise ParamError({"timezone": f"invalid time zone '{zone}'"})
    ctx.node.store.write(ctx.node.etc("timezone"), f"{zone}\n")


@route("GET", "/nodes/{node}/hosts")
async def hosts(ctx: Ctx) -> dict[str, str]:
    """The hosts file with its digest."""
    text = _own_or_system(ctx, "hosts")
    return {"data": text, "digest": ctx.node.store.digest(text)}


@route("POST", "/nodes/{node}/hosts")
async def set_hosts(ctx: Ctx) -> None:
    """Replace the hosts file of the node (kept in its state)."""
    text = _own_or_system(ctx, "hosts")
    check_digest(ctx.node.store, text, ctx.params.get("digest"))
    ctx.node.store.write(ctx.node.etc("hosts"), ctx.params["data"])


@route("GET", "/nodes/{node}/config")
async def node_config(ctx: Ctx) -> dict[str, Any]:
    """Options of the node itself, such as its description."""
    text = ctx.node.store.read(ctx.node.etc("config"))
    wanted = ctx.params.get("property")
    options = parse_options(text)
    shown: dict[str, Any] = {key: value for key, value in options.items() if wanted in (None, "all", key)}
    return {**shown, "digest": ctx.node.store.digest(text)}


@route("PUT", "/nodes/{node}/config")
async def set_node_config(ctx: Ctx) -> None:
    """Set and unset options of the node."""
    change_options(ctx.node.store, ctx.node.etc("config"), ctx.params, ("node",))


@route("GET", "/nodes/{node}/report")
async def report(ctx: Ctx) -> str:
    """A text about the node for people."""
    state = await status(ctx)
    guests = await guest_rows(ctx.node)
    lines = [f"labnode node {ctx.node.name}", f"api {state['pveversion']}", f"kernel {state['kversion']}"]
    lines += [f"kvm {'on' if (await ctx.node.qemu.settled()).kvm else 'off'}", f"load {' '.join(state['loadavg'])}"]
    lines += [f"memory {state['memory']['used']} of {state['memory']['total']} bytes used"]
    lines += [f"guest {row['vmid']} {row['name']} {row['status']}" for row in guests]
    return "\n".join(lines) + "\n"


@route("GET", "/nodes/{node}/netstat")
async def netstat(ctx: Ctx) -> list[dict[str, Any]]:
    """Bytes in and out of each NIC of running guests."""
    rows = []
    for vmid in ctx.node.guests.vmids():
        info = await ctx.node.machines.info(vmid)
        nics = info.nics if info else {}
        rows += [
            {"vmid": str(vmid), "dev": dev, "in": str(n["netin"]), "out": str(n["netout"])} for dev, n in nics.items()
        ]
    return rows


@route("GET", "/nodes/{node}/rrddata")
async def rrddata(ctx: Ctx) -> list[dict[str, Any]]:
    """Samples of the node, one a step of the time frame."""
    return ctx.node.samples.series("node", ctx.params["timeframe"])


@route("GET", "/nodes/{node}/qemu/{vmid}/rrddata")
async def guest_rrddata(ctx: Ctx) -> list[dict[str, Any]]:
    """Samples of a guest."""
    ctx.node.guests.load(ctx.params["vmid"])
    return ctx.node.samples.series(f"qemu/{ctx.params['vmid']}", ctx.params["timeframe"])


@route("GET", "/nodes/{node}/storage/{storage}/rrddata")
async def storage_rrddata(ctx: Ctx) -> list[dict[str, Any]]:
    """Samples of a storage."""
    ctx.node.storage.definition(ctx.params["storage"])
    return ctx.node.samples.series(f"storage/{ctx.params['storage']}", ctx.params["timeframe"])


@route("GET", "/nodes/{node}/lxc")
async def containers(ctx: Ctx) -> list[dict[str, Any]]:
    """Containers: labnode has none."""
    return []


# all guests at once ---------------------------------------------------------------------------------------------------


def _chosen(ctx: Ctx) -> list[int]:
    """The guests a call is about; the caller needs VM.PowerMgmt on all guests, or on each one it names."""
    asked = [int(text) for text in split_list(ctx.params.get("vms", ""))]
    if not ctx.may("/", ["VM.PowerMgmt"]):
        for vmid in asked:
            ctx.check(f"/vms/{vmid}", ["VM.PowerMgmt"])
        if not asked:
            raise Forbidden("Permission check failed (/, VM.PowerMgmt)")
    known = [vmid for vmid in ctx.node.guests.vmids() if not ctx.node.guests.load(vmid).is_template]
    return [vmid for vmid in known if vmid in asked or not asked]


@route("POST", "/nodes/{node}/startall")
async def start_all(ctx: Ctx) -> str:
    """Start all guests marked ``onboot`` (all of them with ``force``), or those named among them, in their order."""
    guests, force = ctx.node.guests, ctx.params.get("force")
    chosen = [v for v in _chosen(ctx) if force or guests.load(v).main.get("onboot") == "1"]

    async def work(task: Task) -> None:
        await lifecycle.start_all(guests, task, chosen)

    return ctx.start_task("startall", "", work)


@route("POST", "/nodes/{node}/stopall")
async def stop_all(ctx: Ctx) -> str:
    """Shut down all running guests, or those named, in reverse order; with ``force-stop`` the slow ones are stopped."""
    guests = ctx.node.guests
    params = {"timeout": str(ctx.params.get("timeout", 180)), "forceStop": str(int(ctx.params.get("force-stop", True)))}
    chosen = [vmid for vmid in _chosen(ctx) if guests.running(vmid)]

    async def stop(task: Task, vmid: int) -> None:
        task.log(f"Stopping VM {vmid} (timeout = {params['timeout']} seconds)")
        path = f"/nodes/{ctx.node.name}/qemu/{vmid}/status/shutdown"
        upid = await call(Ctx(ctx.node, ctx.user, {}, ctx.client, "POST", path, ctx.auth_kind), params)
        result = await ctx.node.tasks.wait(upid)
        if result != "OK":
            task.warn(f"Stopping VM {vmid} failed: {result}")

    async def work(task: Task) -> None:
        for _, vmids in reversed(lifecycle.by_order(guests, chosen)):
            await asyncio.gather(*(stop(task, vmid) for vmid in vmids))

    return ctx.start_task("stopall", "", work)
