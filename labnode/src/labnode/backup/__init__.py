# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of guests (vzdump) in Proxmox VE's own archive format, their restore, and which of them are kept."""
