# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for get-pip.py where its host cannot be reached: the pip that Python ships fetches the one asked for."""

import subprocess
import sys

# In a process of its own: ensurepip switches pip's configuration off, the address of an index included.
subprocess.check_call([sys.executable, "-m", "ensurepip"])
wanted = [a for a in sys.argv[1:] if a not in {"--no-setuptools", "--no-wheel"}]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *wanted]))
