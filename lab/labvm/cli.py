# SPDX-License-Identifier: GPL-3.0-or-later
"""The command `lab/lab`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

from labvm import machine, remote
from labvm.api import Api
from labvm.build import KEY, ensure_image
from labvm.errors import LabError
from labvm.places import Endpoint, Lab, cache_directory, lock
from labvm.qmp import Qmp
from labvm.warm import FINGERPRINT, PASSWORD, boot, ensure_warm, machine_of

DEFAULT = "lab"
WARM_S = 300.0


def say(text: str) -> None:
    """Progress goes to standard error; standard output is for answers."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="lab/lab", description="A Debian host in a virtual machine to try things on.")
    top.add_argument("--name", default=os.environ.get("PVELAB_LAB", DEFAULT), help="which lab (%(default)s)")
    commands = top.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the lab; does nothing when it is up")
    reset = commands.add_parser("reset", help="throw everything away that the lab changed and start it anew")
    for command in (up, reset):
        command.add_argument("--memory", type=int, default=4096, metavar="MIB", help="memory (%(default)s)")
        command.add_argument("--cpus", type=int, metavar="N", help="processors (2, emulated 1)")
        command.add_argument("--cold", action="store_true", help="boot instead of going on from the kept machine")
        command.add_argument("--internet", action="store_true", help="let it reach what this machine reaches")
        command.add_argument("--kvm", choices=("auto", "off"), default="auto")
    commands.add_parser("build", help="build the image and keep the booted machine, start nothing")
    down = commands.add_parser("down", help="stop the lab and remove its files")
    down.add_argument("--all", action="store_true", help="every lab")
    commands.add_parser("status", help="list labs")
    commands.add_parser("path", help="print the lab's directory")
    commands.add_parser("ssh", help="a shell in the lab")
    run = commands.add_parser("exec", help="run a command, or one quoted shell command line, in the lab")
    run.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    api = commands.add_parser("api", help="ask the lab's node, and print the data of its answer as JSON")
    api.add_argument("method", choices=("GET", "POST", "PUT", "DELETE"))
    api.add_argument("path", metavar="PATH", help="as in /nodes/pve1/qemu")
    api.add_argument("params", nargs="*", metavar="NAME=VALUE")
    return top


def main(argv: list[str] | None = None) -> int:
    """Entry point; 1 after a LabError, 130 after Ctrl-C, and nothing half-made is left then."""
    args = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _dispatch(args)
    except LabError as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _dispatch(args: argparse.Namespace) -> int:
    cache = cache_directory()
    lab = Lab(args.name, cache)
    match args.command:
        case "up" | "reset":
            up(lab, args)
        case "build":
            ensure_warm(cache, ensure_image(cache, say), machine.look(), say)
        case "down":
            down(cache, sorted(_names(cache)) if args.all else [lab.name])
        case "status":
            for name in sorted(_names(cache)):
                print(_line(Lab(name, cache)))
        case "path":
            print(lab.directory)
        case "api":
            params = dict(text.split("=", 1) for text in args.params if "=" in text)
            print(json.dumps(Api(lab.endpoint()).log_in().ask(args.method, args.path, params)))
        case _:
            lab.endpoint()
            words = [command_line(args.argv)] if args.command == "exec" else []
            os.execvp("ssh", ["ssh", "-F", str(lab.ssh_config), "lab", *words])
    return 0


def up(lab: Lab, args: argparse.Namespace) -> None:
    """Start a lab, or say that it is up. Prints how to reach it."""
    begun = time.monotonic()
    with lock(lab.cache / "locks" / lab.name):
        if args.command == "up" and lab.pid() is not None and lab.endpoint_file.exists():
            print(how_to(lab.endpoint()))
            return
        image = ensure_image(lab.cache, say)
        hardware = machine.look(args.memory, args.cpus, args.kvm)
        warm = None if args.cold else ensure_warm(lab.cache, image, hardware, say)
        machine.remove(lab)
        with machine_of(lab):
            _start(lab, image, warm, hardware, args)
    say(f"up after {time.monotonic() - begun:.1f} s ({'KVM' if hardware.kvm else 'emulated'})")
    print(how_to(lab.endpoint()))


def _start(lab: Lab, image: Path, warm: Path | None, hardware: machine.Hardware, args: argparse.Namespace) -> None:
    machine.make_disks(lab, image, warm)
    if warm is None:
        ports = boot(lab, image, hardware, say, internet=args.internet)
    else:
        ports = machine.launch(lab, hardware, internet=args.internet, warm=warm)
        with Qmp(lab.qmp) as qmp:
            # it was kept stopped, so it comes back stopped
            qmp.until("query-status", "status", "paused", WARM_S)
            qmp.ask("cont")
        remote.write_ssh_config(lab, image, ports[0])
        remote.wait_for_ssh(lab, WARM_S)
        remote.set_clock(lab)
        for name in (PASSWORD, FINGERPRINT):
            shutil.copy2(warm / name, lab.directory / name)
        if remote.sync_labnode(lab, (warm / PASSWORD).read_text().strip()):
            remote.wait_for_labnode(lab, WARM_S)
    (lab.directory / KEY).symlink_to(image / KEY)
    lab.write_endpoint(
        Endpoint(
            name=lab.name,
            host="127.0.0.1",
            ssh_port=ports[0],
            api_port=ports[1],
            ssh_config=str(lab.ssh_config),
            ssh_key=str(lab.directory / KEY),
            known_hosts=str(lab.directory / "known_hosts"),
            password_file=str(lab.directory / PASSWORD),
            fingerprint=(lab.directory / FINGERPRINT).read_text().strip(),
        )
    )


def how_to(endpoint: Endpoint) -> str:
    """What to type next."""
    own = "" if endpoint.name == DEFAULT else f"PVELAB_LAB={endpoint.name} "
    name = "" if endpoint.name == DEFAULT else f"--name {endpoint.name} "
    return "\n".join(
        [
            f"lab '{endpoint.name}' is up.",
            f"  shell:     lab/lab {name}ssh        (or: ssh -F {endpoint.ssh_config} lab)",
            f"  API:       https://{endpoint.host}:{endpoint.api_port}  root@pam, password in {endpoint.password_file}",
            f"  Ansible:   {own}ansible-playbook -i inventories/lab playbooks/site.yml",
            f"  anew:      lab/lab {name}reset",
            f"  the end:   lab/lab {name}down",
        ]
    )


def command_line(argv: list[str]) -> str:
    """What the shell in the lab is given: one word is a whole command line, several are taken as they are."""
    return argv[0] if len(argv) == 1 else shlex.join(argv)


def down(cache: Path, names: list[str]) -> None:
    """Stop labs and remove their files; one that is not there is no error."""
    for name in names:
        lab = Lab(name, cache)
        with lock(cache / "locks" / name):
            machine.remove(lab)
        (cache / "locks" / name).unlink(missing_ok=True)


def _names(cache: Path) -> set[str]:
    return {path.name for path in (cache / "run").glob("*") if path.is_dir()}


def _line(lab: Lab) -> str:
    pid = lab.pid()
    if pid is None or not lab.endpoint_file.exists():
        return f"{lab.name}: {'starting' if pid else f'not running; remove it: lab/lab --name {lab.name} down'}"
    endpoint = lab.endpoint()
    return f"{lab.name}: up, process {pid}, ssh port {endpoint.ssh_port}, API port {endpoint.api_port}"
