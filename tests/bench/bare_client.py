# SPDX-License-Identifier: GPL-3.0-or-later
"""The least work that a client can do for a list of guests: what the others are held against.

Threads with one kept-alive connection each, the standard library alone, no look before a write and none after it.
It knows from its input what to send, it decides nothing, and it gives up at the first answer that is no success.

Reads one JSON object from standard input (``Order``), prints one: seconds on the clock from before the first connection
to after the last answer, seconds of CPU of this whole process, and how much it asked.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.01, 0.25


@dataclass(frozen=True)
class Order:
    """What to do. ``guests`` maps an id to the form that creates it, ``drifted`` to the form that repairs it."""

    host: str
    port: int
    node: str
    token: str
    action: str
    workers: int
    guests: dict[str, dict[str, Any]]
    drifted: dict[str, dict[str, Any]]
    snapname: str


class Line:
    """One connection, opened anew when the server has closed it."""

    def __init__(self, order: Order, unchecked: ssl.SSLContext) -> None:
        self.calls = 0
        self.base = f"/api2/json/nodes/{order.node}"
        self._headers = {"Authorization": f"PVEAPIToken={order.token}"}
        self._http = http.client.HTTPSConnection(order.host, order.port, context=unchecked, timeout=120)

    def send(self, method: str, path: str, form: dict[str, Any] | None = None) -> Any:
        """The ``data`` of one request; RuntimeError for an answer that is no success."""
        body, headers = None, self._headers
        if form:
            body = urlencode(form)
            headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
        self.calls += 1
        self._http.request(method, path, body, headers)
        answer = self._http.getresponse()
        text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.reason}")
        return json.loads(text)["data"]

    def finish(self, task: str) -> None:
        """Wait for a task; RuntimeError unless it ends well."""
        pause = FIRST_PAUSE_S
        while True:
            status = self.send("GET", f"{self.base}/tasks/{quote(task, safe='')}/status")
            if status["status"] == "stopped":
                break
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_S)
        if status["exitstatus"] != "OK":
            raise RuntimeError(f"{task}: {status['exitstatus']}")

    def close(self) -> None:
        self._http.close()


Job = Callable[[Line], None]


def jobs(order: Order) -> list[Job]:
    """One job a guest."""
    kinds: dict[str, Callable[[Order, str], Job]] = {
        "create": create, "unchanged": look, "drift": repair, "snapshot": snapshot, "delete": delete,
    }  # fmt: skip
    return [kinds[order.action](order, vmid) for vmid in order.guests]


def create(order: Order, vmid: str) -> Job:
    return lambda line: line.finish(line.send("POST", f"{line.base}/qemu", {"vmid": vmid, **order.guests[vmid]}))


def look(_order: Order, vmid: str) -> Job:
    def job(line: Line) -> None:
        line.send("GET", f"{line.base}/qemu/{vmid}/config")

    return job


def repair(order: Order, vmid: str) -> Job:
    def job(line: Line) -> None:
        line.send("GET", f"{line.base}/qemu/{vmid}/config")
        if vmid in order.drifted:
            line.send("PUT", f"{line.base}/qemu/{vmid}/config", order.drifted[vmid])

    return job


def snapshot(order: Order, vmid: str) -> Job:
    form = {"snapname": order.snapname}
    return lambda line: line.finish(line.send("POST", f"{line.base}/qemu/{vmid}/snapshot", form))


def delete(_order: Order, vmid: str) -> Job:
    return lambda line: line.finish(line.send("DELETE", f"{line.base}/qemu/{vmid}"))


def work(line: Line, left: deque[Job], errors: list[Exception]) -> None:
    """One thread: the next job until there is none, or until one of any thread failed."""
    while left and not errors:
        try:
            job = left.popleft()
        except IndexError:
            return
        try:
            job(line)
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            errors.append(error)
    line.close()


def carry_out(order: Order) -> dict[str, Any]:
    """Do it all. Raises the first error."""
    began, errors = time.monotonic(), list[Exception]()
    left = deque(jobs(order))
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    lines = [Line(order, unchecked) for _each in range(min(order.workers, len(left)))]
    # Whoever wants to know what there is asks for this first.
    lines[0].send("GET", "/api2/json/cluster/resources?type=vm")
    threads = [threading.Thread(target=work, args=(line, left, errors)) for line in lines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    wall_s = time.monotonic() - began
    # Not what getrusage says, which begins with the memory of the process that this one was forked from.
    peak_kib = int(Path("/proc/self/status").read_text(encoding="ascii").partition("VmHWM:")[2].split()[0])
    calls = sum(line.calls for line in lines)
    return {"wall_s": wall_s, "cpu_s": time.process_time(), "calls": calls, "rss_mib": peak_kib / 1024}


if __name__ == "__main__":
    print(json.dumps(carry_out(Order(**json.load(sys.stdin)))))
