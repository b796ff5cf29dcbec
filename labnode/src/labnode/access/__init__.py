# SPDX-License-Identifier: GPL-3.0-or-later
"""Users, permissions, passwords, tickets and second factors."""
