# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m labvm` is the command `lab/lab`."""

import sys

from labvm.cli import main

sys.exit(main())
