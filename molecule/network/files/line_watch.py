# SPDX-License-Identifier: GPL-3.0-or-later
"""line_watch.py HOST PORT END LIMIT_S: watch a host's SSH until the file END is there, or for LIMIT_S seconds.

Prints the longest time in seconds for which nobody got in. A connection counts once the server has said its name,
because a port that is forwarded can be opened while nobody is behind it.
"""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

PATIENCE_S = 5.0
# Each question starts a process there, which is dear on a machine that is emulated.
PAUSE_S = 2.0


def answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=PATIENCE_S) as link:
            return link.recv(4) == b"SSH-"
    except OSError:
        return False


def longest_gap(host: str, port: int, end: Path, limit_s: float) -> float:
    begun = last = time.monotonic()
    longest = 0.0
    while not end.exists() and time.monotonic() - begun < limit_s:
        asked = time.monotonic()
        if answers(host, port):
            longest, last = max(longest, asked - last), time.monotonic()
        time.sleep(PAUSE_S)
    return max(longest, time.monotonic() - last - PATIENCE_S)


if __name__ == "__main__":
    print(round(longest_gap(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), float(sys.argv[4])), 1))
