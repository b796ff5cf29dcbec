# SPDX-License-Identifier: GPL-3.0-or-later
"""Storages, their definitions and the volumes on them."""

from labnode.storage.model import Definition, StorageStatus, Volume, VolumeInfo
from labnode.storage.service import StorageService

__all__ = ["Definition", "StorageService", "StorageStatus", "Volume", "VolumeInfo"]
