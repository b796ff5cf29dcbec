# SPDX-License-Identifier: GPL-3.0-or-later
"""labnode: an embedded node that answers the Proxmox VE REST API with real QEMU guests behind it."""

__version__ = "0.1.0"
