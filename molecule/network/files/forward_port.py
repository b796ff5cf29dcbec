# SPDX-License-Identifier: GPL-3.0-or-later
"""forward_port.py QMP_SOCKET ADDRESS: let a free port of 127.0.0.1 lead to SSH at another address of the lab machine.

Prints the port.
"""

from __future__ import annotations

import json
import socket
import sys


def free_port() -> int:
    with socket.socket() as link:
        link.bind(("127.0.0.1", 0))
        port: int = link.getsockname()[1]
        return port


def ask_monitor(path: str, line: str) -> str:
    """What QEMU's monitor answers; SystemExit where it is anything, because this command says nothing when it works."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(60)
        link.connect(path)
        with link.makefile("rw") as talk:
            talk.readline()
            for request in (
                {"execute": "qmp_capabilities"},
                {"execute": "human-monitor-command", "arguments": {"command-line": line}},
            ):
                talk.write(json.dumps(request) + "\n")
                talk.flush()
                answer = json.loads(talk.readline())
                while "event" in answer:
                    answer = json.loads(talk.readline())
    if answer.get("return"):
        raise SystemExit(f"{line}: {answer}")
    return str(answer["return"])


if __name__ == "__main__":
    port = free_port()
    ask_monitor(sys.argv[1], f"hostfwd_add eno1 tcp:127.0.0.1:{port}-{sys.argv[2]}:22")
    print(port)
