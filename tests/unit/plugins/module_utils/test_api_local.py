# SPDX-License-Identifier: GPL-3.0-or-later
"""The API by pvesh: a pvesh of our own that prints what the real one does (pve-manager CLI/pvesh.pm)."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.pvelab.proxmox.plugins.module_utils.api import Api
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_errors import (
    NotFound,
    ParameterErrors,
    Unknown,
    Unreachable,
)
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_local import LocalWire
from ansible_collections.pvelab.proxmox.plugins.module_utils.api_wire import NoAnswer, Request
from ansible_collections.pvelab.proxmox.plugins.module_utils.core.steps import Call, Failure

UPID = "UPID:pve1:00000193:0007D486:6B014F83:qmcreate:101:root@pam:"


class Pvesh:
    """A command ``pvesh`` in a directory of the test; it writes down how it was called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def says(self, *answers: tuple[str, str, int], rest: str = "") -> None:
        """Standard output, standard error and exit code of one call after the other; the last for ever."""
        for number, (out, err, code) in enumerate(answers):
            (self.folder / f"{number}.out").write_text(out, encoding="utf-8")
            (self.folder / f"{number}.err").write_text(err, encoding="utf-8")
            (self.folder / f"{number}.code").write_text(str(code), encoding="utf-8")
        here = shlex.quote(str(self.folder))
        script = f"""#!/bin/sh
cd {here}
n=$(ls -d call.* 2>/dev/null | wc -l)
printf '%s\\0' "$@" > call.$n
{rest}
[ -e $n.out ] || n={len(answers) - 1}
cat $n.err >&2
cat $n.out
exit $(cat $n.code)
"""
        command = self.folder / "pvesh"
        command.write_text(script, encoding="utf-8")
        command.chmod(0o755)

    def calls(self) -> list[list[str]]:
        files = sorted(self.folder.glob("call.*"), key=lambda p: int(p.suffix[1:]))
        return [f.read_text(encoding="utf-8").split("\0")[:-1] for f in files]


@pytest.fixture
def pvesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pvesh:
    return Pvesh(tmp_path, monkeypatch)


@pytest.fixture
def api(pvesh: Pvesh) -> Api:
    pvesh.says(("null\n", "", 0))
    return Api.from_params({})


def test_it_is_used_where_there_is_one_and_no_host(api: Api) -> None:
    assert repr(api) == "Api(pvesh on this machine as root@pam)"


def test_reads(pvesh: Pvesh, api: Api) -> None:
    pvesh.says((json.dumps([{"node": "pve1"}]) + "\n", "a warning that means nothing\n", 0))
    assert api.get("/nodes/pve1/storage/a%3Ab", list=["x", "y"], flag=True, gone=None) == [{"node": "pve1"}]
    assert pvesh.calls() == [
        ["get", "/nodes/pve1/storage/a:b", "--list", "x", "--list", "y", "--flag", "1", "--output-format", "json"]
    ]


@pytest.mark.parametrize(("method", "verb"), [("POST", "create"), ("PUT", "set"), ("DELETE", "delete")])
def test_writes_without_a_result(pvesh: Pvesh, api: Api, method: str, verb: str) -> None:
    pvesh.says(("", "", 0))
    assert api.do(Call(method, "/pools/a", {"comment": "two words; --x"})) is None
    assert pvesh.calls()[0] == [verb, "/pools/a", "--comment", "two words; --x", "--output-format", "json"]


def test_task_ran_in_the_foreground(pvesh: Pvesh, api: Api) -> None:
    ended = json.dumps({"status": "stopped", "exitstatus": "OK"})
    pvesh.says((f'formatting\nTASK OK\n"{UPID}"\n', "", 0), (ended, "", 0))
    assert api.do(Call("POST", "/nodes/pve1/qemu", {"vmid": 101})) == UPID
    assert pvesh.calls()[1][1] == f"/nodes/pve1/tasks/{UPID}/status"


def test_task_that_failed_in_the_foreground(pvesh: Pvesh, api: Api) -> None:
    pvesh.says(
        (f'TASK ERROR: no space\n"{UPID}"\n', "", 0),
        (json.dumps({"status": "stopped", "exitstatus": "no space"}), "", 0),
        (json.dumps([{"n": 1, "t": "TASK ERROR: no space"}]), "", 0),
    )
    with pytest.raises(Failure, match="qmcreate 101 on pve1 failed: no space") as caught:
        api.do(Call("POST", "/nodes/pve1/qemu", {"vmid": 101}))
    assert caught.value.task_log == ["TASK ERROR: no space"]


@pytest.mark.parametrize(
    ("complaint", "code", "kind", "told"),
    [
        ("400 Parameter verification failed.\nvmid: bad\ncores: worse\npvesh create <api_path> [OPTIONS]\n", 255,
         ParameterErrors, {"vmid": "bad", "cores": "worse"}),
        ("Configuration file 'nodes/pve1/qemu-server/9.conf' does not exist\n", 2, NotFound, None),
        ("No 'get' handler defined for '/nosuch'\n", 1, Failure, None),
        ("", 255, Failure, None),
        ("trying to acquire lock...\ncluster not ready - no quorum?\n", 255, Failure, None),
    ],
)  # fmt: skip
def test_errors(pvesh: Pvesh, complaint: str, code: int, kind: type[Failure], told: Any) -> None:
    pvesh.says(("", complaint, code))
    with pytest.raises(kind) as caught:
        Api.from_params({"api_retries": 0}).get("/nosuch")
    assert caught.value.errors == told
    assert caught.value.status == {2: 500, 1: 501}.get(code, 400 if told else 500)


def test_output_that_is_no_json(pvesh: Pvesh, api: Api) -> None:
    pvesh.says(("ipcc_send_rec failed\n", "", 0))
    with pytest.raises(Failure, match="printed no JSON but: ipcc_send_rec failed"):
        api.get("/nodes")


def test_command_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoAnswer, match="cannot be run: No such file") as caught:
        LocalWire().send(Request("GET", "/nodes"))
    assert caught.value.permanent and not caught.value.sent


def test_read_that_takes_too_long(pvesh: Pvesh) -> None:
    pvesh.says(("", "", 0), rest="exec sleep 5")
    with pytest.raises(NoAnswer, match="did not finish within") as caught:
        LocalWire().send(Request("GET", "/nodes", timeout_s=0.1))
    assert caught.value.sent
    api = Api.from_params({"api_retries": 0, "api_timeout": 1})
    with pytest.raises(Unreachable, match="did not finish within 1 seconds"):
        api.get("/nodes")


def test_write_may_take_as_long_as_its_task(pvesh: Pvesh, api: Api) -> None:
    assert api._request(Call("POST", "/a", timeout_s=900)).timeout_s == 900
    assert api._request(Call("POST", "/a")).timeout_s == 1800


def test_upload_is_copied_to_where_proxmox_takes_it_from(pvesh: Pvesh, api: Api, tmp_path: Path) -> None:
    file = tmp_path / "tiny.iso"
    file.write_bytes(b"content")
    pvesh.says(("", "", 0), rest='for a in "$@"; do case $a in /var/tmp/pveupload-*) cp "$a" copied;; esac; done')
    api.do(Call("POST", "/nodes/pve1/storage/local/upload", {"content": "iso"}, file=str(file)))
    call = pvesh.calls()[0]
    assert (tmp_path / "copied").read_bytes() == b"content"
    assert call[call.index("--filename") + 1] == "tiny.iso"
    assert not Path(call[call.index("--tmpfilename") + 1]).exists()


def test_lost_write_is_unknown(pvesh: Pvesh) -> None:
    with pytest.raises(Unknown, match="not known whether PUT /pools/a was carried out"):
        pvesh.says(("", "", 0), rest="exec sleep 1")
        api = Api.from_params({"api_timeout": 1, "api_task_timeout": 1})
        api._send(Request("PUT", "/pools/a", timeout_s=0.1))
