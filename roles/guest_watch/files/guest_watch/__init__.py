# SPDX-License-Identifier: GPL-3.0-or-later
"""Sees what a Proxmox VE node knows and tells nobody: guests that "run" and do not, pools that are about to fill."""
