# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line refuses, in one clear sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labnode.cli import main


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--listen", "0.0.0.0:8006"], "not a loopback address; add --allow-remote if you mean it"),
        (["--listen", "8006"], "expected HOST:PORT"),
        (["--listen", "127.0.0.1:99999"], "expected HOST:PORT"),
        (["--node", "not_a_name"], "value does not look like a valid node name"),
        ([], "has no password for root@pam yet: name a file that holds it with --password-file"),
        (["--password-file", "/nosuch/file"], "No such file or directory"),
    ],
)
def test_refusals(tmp_path: Path, capsys: Any, arguments: list[str], text: str) -> None:
    assert main(["serve", "--state", str(tmp_path / "state"), *arguments]) == 2
    said = capsys.readouterr()
    assert text in said.err and said.err.startswith("labnode: ") and said.err.count("\n") == 1 and not said.out


def test_an_empty_password_is_refused(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "pw").write_text("\n")
    assert main(["serve", "--state", str(tmp_path / "state"), "--password-file", str(tmp_path / "pw")]) == 2
    assert "at least 5 characters" in capsys.readouterr().err


def test_two_nodes_do_not_share_a_state(own_server: Any, capsys: Any) -> None:
    assert main(["serve", "--state", str(own_server.state), "--listen", "127.0.0.1:0"]) == 2
    assert "another labnode is using it; stop that one first" in capsys.readouterr().err


def test_a_busy_port_is_named(own_server: Any, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "pw").write_text("secret words\n")
    listen = f"127.0.0.1:{own_server.port}"
    arguments = ["serve", "--state", str(tmp_path / "other"), "--listen", listen, "--kvm", "off"]
    assert main([*arguments, "--password-file", str(tmp_path / "pw")]) == 2
    assert f"--listen {listen}: Address already in use" in capsys.readouterr().err
