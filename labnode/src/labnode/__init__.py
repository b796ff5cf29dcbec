# SPDX-License-Identifier: GPL-3.0-or-later
"""labnode: an embedded node that answers the Proxmox VE REST API with real QEMU guests behind it."""

__version__ = "0.1.0"

# The release of Proxmox VE whose API labnode answers, and what stands for the commit it was built from.
RELEASE = "9.1"
VERSION = "9.1.7"
REPOID = "1ab0de0000000000"
