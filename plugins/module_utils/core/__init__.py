# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure heart of the collection: standard library only, no I/O, no clock, no Ansible."""
