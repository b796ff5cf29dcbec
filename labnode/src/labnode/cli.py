# SPDX-License-Identifier: GPL-3.0-or-later
"""The command ``labnode``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import ipaddress
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from aiohttp import web

from labnode import __version__, canary, tls
from labnode.app import KEEPALIVE_S, make_app
from labnode.errors import ApiError
from labnode.machine.places import socket_root
from labnode.node import Node, Settings, build, shutdown
from labnode.schema.formats import check_named

_STOP_GRACE_S = 2.0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="labnode", description="An embedded node with the Proxmox VE REST API.")
    top.add_argument("--version", action="version", version=f"labnode {__version__}")
    commands = top.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the node until SIGTERM")
    serve.add_argument("--listen", default="127.0.0.1:8006", metavar="HOST:PORT", help="port 0 takes a free one")
    serve.add_argument("--state", required=True, type=Path, metavar="DIR", help="everything the node keeps")
    serve.add_argument("--node", default="pve1", metavar="NAME", help="name of the node")
    serve.add_argument("--password-file", type=Path, metavar="FILE", help="password of root@pam (first line)")
    serve.add_argument("--kvm", choices=("auto", "on", "off"), default="auto")
    serve.add_argument("--auth-delay", type=float, default=3.0, metavar="SECONDS", help="pause before a 401")
    serve.add_argument("--allow-remote", action="store_true", help="accept an address other than loopback in --listen")
    serve.add_argument(
        "--host-network", action="store_true", help="the host's own /etc/network and kernel bridges (needs root)"
    )
    serve.add_argument("--verbose", action="store_true", help="log requests and tasks to standard error")
    canary.add_command(commands)
    return top


class UsageError(Exception):
    """Something the person at the command line must change; the text says what."""


def settings_of(args: argparse.Namespace) -> Settings:
    """Checked settings; raises UsageError with one sentence."""
    host, _, port = str(args.listen).rpartition(":")
    host = host.strip("[]")
    if not (host and port.isdecimal() and int(port) < 65536):
        raise UsageError(f"--listen {args.listen}: expected HOST:PORT, such as 127.0.0.1:8006")
    if not (_is_loopback(host) or args.allow_remote):
        raise UsageError(f"--listen {args.listen}: not a loopback address; add --allow-remote if you mean it")
    if args.host_network and os.geteuid() != 0:
        raise UsageError("--host-network changes the network of this host and so needs root; leave it out otherwise")
    refusal = check_named("pve-node", args.node)
    if refusal:
        raise UsageError(f"--node {args.node}: {refusal}")
    return Settings(
        state_dir=args.state.absolute(),
        node_name=args.node,
        host=host,
        port=int(port),
        kvm=args.kvm,
        auth_delay=args.auth_delay,
        root_password=_password(args.password_file, args.state),
        host_network=args.host_network,
    )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _password(path: Path | None, state: Path) -> str | None:
    if path is None:
        if (state / "etc/priv/shadow.cfg").exists():
            return None
        raise UsageError(f"{state} has no password for root@pam yet: name a file that holds it with --password-file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as err:
        raise UsageError(f"--password-file {path}: {err.strerror}") from err
    if not lines or len(lines[0]) < 5:
        raise UsageError(f"--password-file {path}: the first line must be a password of at least 5 characters")
    return lines[0]


@contextlib.contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Hold the state directory for this process; UsageError when another labnode has it."""
    state.mkdir(parents=True, exist_ok=True)
    fd = os.open(state / "labnode.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise UsageError(f"--state {state}: another labnode is using it; stop that one first") from None
    try:
        yield
    finally:
        os.close(fd)


async def serve(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT; prints ``ready URL`` and ``fingerprint ...`` once it answers."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = await build(settings)
    runner = web.AppRunner(make_app(node), keepalive_timeout=KEEPALIVE_S, access_log=None)
    await runner.setup()
    try:
        await _listen(node, runner)
        await stop.wait()
    finally:
        await runner.shutdown()
        await runner.cleanup()
        await shutdown(node)


async def _listen(node: Node, runner: web.AppRunner) -> None:
    settings = node.settings
    cert, key = tls.ensure_certificate(node.store, node.name)
    site = web.TCPSite(runner, settings.host, settings.port, ssl_context=tls.server_context(cert, key))
    try:
        await site.start()
    except OSError as err:
        reason = os.strerror(err.errno or 0)
        raise UsageError(f"--listen {settings.host}:{settings.port}: {reason}") from err
    port = runner.addresses[0][1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url, mark = f"https://{host}:{port}", tls.fingerprint(cert)
    said = {"url": url, "fingerprint": mark, "node": node.name, "sockets": str(socket_root(settings.state_dir / "run"))}
    node.store.write("endpoint.json", json.dumps(said) + "\n", 0o644)
    print(f"ready {url}", f"fingerprint {mark}", sep="\n", flush=True)


def main(argv: list[str] | None = None) -> int:
    """Entry point; exit status 0 after a clean stop, 2 for something to change on the command line."""
    args = parser().parse_args(argv)
    if args.command == "canary":
        return canary.command(args)
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s"
    )
    try:
        settings = settings_of(args)
        with only_one(settings.state_dir):
            asyncio.run(serve(settings))
    except (UsageError, ApiError) as err:
        print(f"labnode: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
