#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to a lab's node: node_ask.py ENDPOINT.json METHOD PATH [NAME=VALUE…] prints the answer's data as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from guest_exec import Node


def main() -> None:
    endpoint, method, path, *params = sys.argv[1:]
    node = Node(json.loads(Path(endpoint).read_text(encoding="utf-8")))
    print(json.dumps(node.ask(method, path, dict(text.split("=", 1) for text in params) or None)))


if __name__ == "__main__":
    main()
