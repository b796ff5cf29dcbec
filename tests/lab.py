# SPDX-License-Identifier: GPL-3.0-or-later
"""A labnode of one's own for a test: on a free loopback port, with its state in a directory that the test owns.

Modules and playbooks are run as users run them: in processes of their own, credentials in the environment.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from proxmoxer import ProxmoxAPI

from ansible_collections.pvelab.proxmox.tests import forked

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
PASSWORD = "correct horse"
READY_S = 60.0


def until(condition: Callable[[], Any], what: str, timeout_s: float = 60.0) -> Any:
    """The first true value of ``condition``; AssertionError naming ``what`` when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.05)


class Lab:
    """One embedded node. ``wrapper`` is a command that is to start it, ``password`` that of root@pam, ``options`` are
    more of its own.

    ``url`` and ``fingerprint`` are what it printed; ``port`` stays the same after a restart.
    """

    def __init__(
        self,
        folder: Path,
        node: str = "pve1",
        wrapper: Sequence[str] = (),
        password: str = PASSWORD,
        options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.wrapper = wrapper
        self.options = options
        self.password = password
        self.state = folder / "state"
        self.log = folder / "labnode.log"
        self.node = node
        self.port = 0
        self.fingerprint = ""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Lab:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        # Guests that boot nothing ignore a shutdown, so waiting for them gains nothing.
        for pid_file in self.state.glob("run/*/qemu.pid"):
            with suppress(OSError, ValueError, psutil.NoSuchProcess):
                guest = psutil.Process(int(pid_file.read_text(encoding="utf-8")))
                if str(self.state) in " ".join(guest.cmdline()):
                    guest.kill()
        try:
            self.stop()
        except AssertionError:
            # What went wrong first is what matters.
            if kind is None:
                raise

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process that was started: of labnode, or of the wrapper."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it answers; a restart takes the same port."""
        password = self.folder / "password"
        password.write_text(self.password + "\n", encoding="utf-8")
        endpoint = self.state / "endpoint.json"
        endpoint.unlink(missing_ok=True)
        arguments = ["serve", "--listen", f"127.0.0.1:{self.port}", "--state", str(self.state), "--node", self.node]
        arguments += ["--password-file", str(password), "--kvm", "off", "--auth-delay", "0", *self.options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([*self.wrapper, BIN / "labnode", *arguments], stdout=log, stderr=log)
        until(lambda: endpoint.exists() or self._process.poll() is not None, "labnode is ready", READY_S)
        assert self._process.poll() is None, self.log.read_text(encoding="utf-8")
        said = json.loads(endpoint.read_text(encoding="utf-8"))
        self.port, self.fingerprint = int(said["url"].rpartition(":")[2]), said["fingerprint"]

    def kill(self) -> None:
        """kill -9: no goodbye, no clean-up; guests go on."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM: guests are stopped, and it says goodbye with exit status 0."""
        if self._process is None:
            return
        status = self._end(signal.SIGTERM)
        assert status == 0, self.log.read_text(encoding="utf-8")

    def _end(self, number: int) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            return process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    @property
    def certificate(self) -> Path:
        return self.state / f"etc/nodes/{self.node}/pve-ssl.pem"

    def api(self, timeout_s: int = 5) -> Any:
        """Somebody else's client, so that what the collection says is not proved by the collection itself."""
        return ProxmoxAPI(
            "127.0.0.1",
            port=self.port,
            user="root@pam",
            password=self.password,
            verify_ssl=str(self.certificate),
            timeout=timeout_s,
        )

    def environment(self, port: int | None = None, **more: str | None) -> dict[str, str]:
        """The variables with which modules and playbooks find this node (or a proxy on ``port`` before it).

        ``more`` adds to them, or with None takes one away.
        """
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PROXMOX_", "ANSIBLE_", "PYTEST_"))}
        variables = {
            **inherited,
            "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(ROOT / ".build"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(self.folder / "tmp"),
            "ANSIBLE_NOCOLOR": "1",
            "PROXMOX_HOST": "127.0.0.1",
            "PROXMOX_PORT": str(port or self.port),
            "PROXMOX_USER": "root@pam",
            "PROXMOX_PASSWORD": self.password,
            "PROXMOX_FINGERPRINT": self.fingerprint,
            **more,
        }
        return {name: value for name, value in variables.items() if value is not None}

    def module(self, name: str, params: Mapping[str, Any], *, check: bool = False, port: int | None = None) -> Any:
        """Run a module as Ansible would; its result, ``failed`` and ``msg`` included.

        ``name`` is one of the collection's, or a full one: "community.proxmox.proxmox_kvm".
        """
        path, found, controls = self._called(name, check)
        given = {"ANSIBLE_MODULE_ARGS": {**params, **controls}}
        return forked.module(path, given, self.environment(port, **found), self.folder)

    def _called(self, name: str, check: bool) -> tuple[str, dict[str, str | None], dict[str, Any]]:
        """A module's place among Python's, variables it needs beyond the usual ones, and what Ansible says beside."""
        foreign = "." in name
        path = ".plugins.modules.".join((name if foreign else f"pvelab.proxmox.{name}").rsplit(".", maxsplit=1))
        # What .build shadows is then found where pip put it.
        found: dict[str, str | None] = {"PYTHONPATH": None, "PROXMOX_CA_PATH": str(self.certificate)} if foreign else {}
        controls = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_remote_tmp": str(self.folder)}
        return f"ansible_collections.{path}", found, controls

    def begin_module(
        self, name: str, params: Mapping[str, Any], *, check: bool = False, port: int | None = None, **more: str | None
    ) -> subprocess.Popen[str]:
        """Start a module in a session of its own; ``finished`` waits for it. ``more`` goes to ``environment``."""
        path, found, controls = self._called(name, check)
        process = subprocess.Popen(
            [sys.executable, "-m", path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(port, **{**found, **more}),
            cwd=self.folder,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": {**params, **controls}}))
        process.stdin.close()
        process.stdin = None
        return process

    def begin_playbook(self, playbook: Path, *arguments: str, port: int | None = None) -> subprocess.Popen[str]:
        """Start a playbook on this machine's inventory of one; its JSON report goes to standard output."""
        callback = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
        return subprocess.Popen(
            [BIN / "ansible-playbook", playbook, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(port, **callback),
            cwd=ROOT,
            start_new_session=True,
        )

    def playbook(self, playbook: Path, *arguments: str, port: int | None = None) -> Any:
        """Run a playbook to its end: the report of the JSON callback, with ``rc``."""
        process = self.begin_playbook(playbook, *arguments, port=port)
        out, err = process.communicate(timeout=400)
        start = out.find("{")
        assert start >= 0, f"{out}\n{err}"
        return {**json.loads(out[start:]), "rc": process.returncode}


def finished(process: subprocess.Popen[str], timeout_s: float = 300.0) -> Any:
    """The result of a module that was begun."""
    out, err = process.communicate(timeout=timeout_s)
    assert out.strip().startswith("{"), f"no result: {out}\n{err}"
    return json.loads(out)


def orphans(api: Any, node: str = "pve1") -> set[str]:
    """The volumes of guests' disks that no guest mentions, on all storages: "local:100/vm-100-disk-0.qcow2"."""
    guests = api.nodes(node).qemu.get()
    configs = [str(api.nodes(node).qemu(g["vmid"]).config.get()) for g in guests]
    snapshots = [
        str(api.nodes(node).qemu(g["vmid"]).snapshot(s["name"]).config.get())
        for g in guests
        for s in api.nodes(node).qemu(g["vmid"]).snapshot.get()
        if s["name"] != "current"
    ]
    stores = [s["storage"] for s in api.nodes(node).storage.get(content="images")]
    volumes = {v["volid"] for store in stores for v in api.nodes(node).storage(store).content.get(content="images")}
    return {v for v in volumes if not any(v in text for text in [*configs, *snapshots])}


def stats(report: Mapping[str, Any]) -> dict[str, int]:
    """The totals of a playbook over all its hosts: ok, changed, failures, unreachable."""
    totals: dict[str, int] = {}
    for host in report["stats"].values():
        for key, value in host.items():
            totals[key] = totals.get(key, 0) + value
    return totals


def failures(report: Mapping[str, Any]) -> list[str]:
    """The messages of the tasks that failed."""
    return [
        str(result["msg"])
        for play in report["plays"]
        for task in play["tasks"]
        for result in task["hosts"].values()
        if result.get("failed")
    ]
