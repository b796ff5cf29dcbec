# SPDX-License-Identifier: GPL-3.0-or-later
"""Where sockets go when the state directory's path is too long for them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labnode.errors import ApiError
from labnode.machine.places import LONGEST_SOCKET, Places, clear_sockets, socket_root


def test_sockets_stay_in_a_state_directory_with_a_short_path() -> None:
    assert socket_root(Path("/srv/lab/run")) == Path("/srv/lab/run")


def test_a_long_path_gets_a_short_directory_of_its_own_which_goes_again(tmp_path: Path) -> None:
    run_dir = tmp_path / ("x" * LONGEST_SOCKET) / "run"
    places = Places(run_dir, 100)
    places.make()
    root = socket_root(run_dir)
    assert places.socket("qmp").is_relative_to(root) and len(str(places.socket("swtpm"))) < 107
    assert root.stat().st_mode & 0o777 == 0o700
    clear_sockets(run_dir)
    assert not root.exists() and places.directory.is_dir()


def test_a_directory_that_somebody_else_has_put_there_is_refused(tmp_path: Path) -> None:
    run_dir = tmp_path / ("y" * LONGEST_SOCKET) / "run"
    root = socket_root(run_dir)
    root.symlink_to(tmp_path)
    try:
        with pytest.raises(ApiError, match="belongs to another user"):
            Places(run_dir, 100).make()
        assert os.listdir(tmp_path) == []
    finally:
        root.unlink()
