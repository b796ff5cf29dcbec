# SPDX-License-Identifier: GPL-3.0-or-later
"""The node's network configuration: /etc/network/interfaces as Proxmox VE reads, stages, shows and applies it."""
