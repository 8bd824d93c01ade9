"""One process at a time in a run's folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from limner.errors import RunInUseError
from limner.events import Notice
from limner.progress import Progress
from limner.running.lease import LEASE, Lease, hold, read_lease

HOLDING = """
import sys, time
from pathlib import Path
from limner.running.lease import hold
with hold(Path(sys.argv[1]), "limner run theirs.toml"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_by_the_firsts_name(holder, tmp_path):
    with (
        pytest.raises(RunInUseError, match=rf"limner run theirs.toml \(process {holder.pid} on .*limner stop") as error,
        hold(tmp_path, "limner run mine.toml"),
    ):
        pytest.fail("both have it")
    assert error.value.exit_code == 2
    assert read_lease(tmp_path).process == holder.pid


def test_a_lease_whose_process_was_killed_is_taken_over_with_a_notice(holder, tmp_path):
    holder.send_signal(signal.SIGKILL)
    time.sleep(0.2)  # it is not waited for: a process that nobody has waited for yet is gone, too
    heard = []
    with hold(tmp_path, "limner run mine.toml", Progress(heard.append)):
        assert read_lease(tmp_path).process == os.getpid()
    assert [event.message for event in heard if isinstance(event, Notice)] == [
        f"{tmp_path}: taken over from limner run theirs.toml: process {holder.pid} is gone"
    ]
    assert not (tmp_path / LEASE).exists()


def other(tmp_path, **changes) -> None:
    """This process's lease, with something else in it."""
    with hold(tmp_path, "limner run"):
        lease = read_lease(tmp_path)
    (tmp_path / LEASE).write_text(Lease.model_copy(lease, update=changes).model_dump_json())


@pytest.mark.parametrize("changes", [{"process_started": 5.0}, {"boot": "before"}])
def test_a_number_that_came_again_and_another_boot_are_taken_over(tmp_path, changes):
    other(tmp_path, **changes)
    with hold(tmp_path, "limner run again"):
        assert read_lease(tmp_path).doing == "limner run again"


@pytest.mark.parametrize("changes", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}])
def test_one_of_another_host_or_container_is_refused_with_what_to_do(tmp_path, changes):
    other(tmp_path, **changes)
    with pytest.raises(RunInUseError, match=r"another host.*remove .*lease.json"), hold(tmp_path, "limner run"):
        pytest.fail("both have it")


def test_a_process_that_has_it_may_take_it_again_and_gives_it_back_once(tmp_path):
    with hold(tmp_path, "outer"):
        with hold(tmp_path, "inner"):
            assert read_lease(tmp_path).doing == "outer"
        assert read_lease(tmp_path) is not None
    assert list(tmp_path.iterdir()) == []


def test_a_lease_that_says_nothing_is_refused(tmp_path):
    (tmp_path / LEASE).write_text("{")
    with pytest.raises(RunInUseError, match="cannot be read"), hold(tmp_path, "limner run"):
        pytest.fail("both have it")
