# SPDX-License-Identifier: GPL-3.0-or-later
"""Tasks: identity, log, exit status, and what becomes of them across a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from labnode.errors import ApiError, ParamError
from labnode.store import Store
from labnode.tasks import Task, TaskService, Upid, Worker


async def nothing(task: Task) -> None:
    task.log("working")


async def finished(service: TaskService, worker: Worker) -> tuple[str, str | None]:
    upid = service.start("qmstart", "100", "root@pam", worker)
    return upid, await service.wait(upid)


async def test_a_task_has_a_log_and_a_status(tmp_path: Path) -> None:
    service = TaskService("pve1", Store(tmp_path))
    upid, status = await finished(service, nothing)
    assert status == "OK"
    assert service.log(upid) == ([{"n": 1, "t": "working"}, {"n": 2, "t": "TASK OK"}], 2)
    assert upid.startswith("UPID:pve1:") and upid.endswith(":qmstart:100:root@pam:")
    assert str(Upid.parse(upid)) == upid


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ApiError("no such thing"), "no such thing"),
        (ApiError("one\ntwo"), "one two"),
        (ParamError({"id": "No such job"}), "400 Parameter verification failed. id: No such job"),
        (ValueError("oops"), "internal error: ValueError: oops"),
    ],
)
async def test_errors_become_the_status(tmp_path: Path, error: Exception, status: str) -> None:
    async def fail(task: Task) -> None:
        raise error

    service = TaskService("pve1", Store(tmp_path))
    upid, got = await finished(service, fail)
    assert got == status
    assert service.log(upid)[0][-1]["t"] == f"TASK ERROR: {status}"


async def test_warnings_are_counted(tmp_path: Path) -> None:
    async def warn(task: Task) -> None:
        task.warn("first")
        task.warn("second")

    service = TaskService("pve1", Store(tmp_path))
    upid, status = await finished(service, warn)
    assert status == "WARNINGS: 2"
    assert [line["t"] for line in service.log(upid)[0]] == ["WARN: first", "WARN: second", "TASK WARNINGS: 2"]


async def test_a_task_can_be_stopped(tmp_path: Path) -> None:
    began = asyncio.Event()

    async def forever(task: Task) -> None:
        began.set()
        await asyncio.Event().wait()

    service = TaskService("pve1", Store(tmp_path))
    upid = service.start("vzdump", "100", "root@pam", forever)
    entry = service.get(upid)
    assert entry is not None and entry.status is None and service.active() == [entry]
    await began.wait()
    service.cancel(upid)
    assert await service.wait(upid) == "received interrupt"
    assert service.active() == []


async def test_identities_never_repeat(tmp_path: Path) -> None:
    service = TaskService("pve1", Store(tmp_path))
    upids = [service.start("qmstart", "100", "root@pam", nothing) for _ in range(50)]
    assert len(set(upids)) == 50
    await service.stop()


async def test_log_pages(tmp_path: Path) -> None:
    async def talk(task: Task) -> None:
        for number in range(100):
            task.log(f"line {number}")

    service = TaskService("pve1", Store(tmp_path))
    upid, _ = await finished(service, talk)
    lines, total = service.log(upid)
    assert (len(lines), total) == (50, 101)
    assert service.log(upid, 99, 10)[0] == [{"n": 100, "t": "line 99"}, {"n": 101, "t": "TASK OK"}]
    assert len(service.log(upid, 0, 0)[0]) == 101


async def test_finished_tasks_are_there_after_a_restart_and_cut_off_ones_say_so(tmp_path: Path) -> None:
    service = TaskService("pve1", Store(tmp_path))
    done, _ = await finished(service, nothing)
    cut = service.start("qmstart", "101", "root@pam", nothing)  # its log exists, it never runs: as after a kill
    again = TaskService("pve1", Store(tmp_path))
    again.load()
    statuses = {str(entry.upid): entry.status for entry in again.archive()}
    assert statuses == {done: "OK", cut: "unexpected status"}
    assert str(again.archive()[0].upid) == cut
    await service.stop()


def test_strange_identities_are_refused() -> None:
    for text in ("", "UPID", "UPID:a:b:c:d:e:f:g:", "UPID:pve1:0000:1:2:qmstart:1:root@pam:"):
        with pytest.raises(ApiError) as caught:
            Upid.parse(text)
        assert caught.value.status == 400
