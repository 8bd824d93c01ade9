"""events.jsonl and commands, without a run."""

from __future__ import annotations

import pytest

from limner.errors import InputError
from limner.events import Answered, Notice, Progressed, Started
from limner.progress import Progress, StopAskedError
from limner.running import commands
from limner.running.commands import Inbox, give
from limner.running.lease import hold
from limner.running.record import EVENTS, EventFile, read_events


def test_events_are_followed_by_byte_offset_and_a_torn_line_is_passed_over(tmp_path):
    first = EventFile(tmp_path)
    first(Notice(message="ünï"))
    seen, offset = read_events(tmp_path)
    assert [event.message for event in seen] == ["ünï"]
    with (tmp_path / EVENTS).open("ab") as file:
        file.write(b'{"type": "notice", "mess')  # the process dies here
    assert read_events(tmp_path, offset) == ([], offset), "a line that is not whole is not read yet"
    second = EventFile(tmp_path)
    second(Started(what="again"))
    seen, end = read_events(tmp_path, offset)
    assert [event.type for event in seen] == ["started"]
    assert end == (tmp_path / EVENTS).stat().st_size
    first.close()
    second.close()


def test_kinds_that_are_not_known_and_new_fields_do_no_harm(tmp_path):
    lines = ['{"type": "later", "x": 1}', '{"type": "notice", "time": 1, "message": "m", "colour": "red"}']
    (tmp_path / EVENTS).write_text("\n".join(lines) + "\n")
    assert [event.message for event in read_events(tmp_path)[0]] == ["m"]


def test_progress_is_throttled_but_for_its_first_and_last():
    heard = []
    with Progress(heard.append, every_seconds=60).task("train", 1000, variants=["lora-2"], unit="steps") as activity:
        for _ in range(1000):
            activity.measured("lora-2", 0.5, 1e-4)
            activity(1)
    assert [(event.step, event.last) for event in heard] == [(0, False), (1000, True)]
    assert (heard[-1].title, heard[-1].losses, heard[-1].learning_rates) == (
        "train lora-2", {"lora-2": 0.5}, {"lora-2": 1e-4}
    )  # fmt: skip


def test_what_an_earlier_run_did_says_nothing_of_the_pace():
    heard = []
    with Progress(heard.append, every_seconds=0).task("train", 100) as activity:
        activity.resume(98)
        activity(1)
    assert heard[1].step == 99
    assert heard[1].seconds_left == pytest.approx(heard[1].seconds)


def test_commands_are_taken_once_and_answered(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "LOOK_SECONDS", 0)
    heard, taken = [], []
    with hold(tmp_path, "limner run"):
        progress = Progress(heard.append, look=Inbox(tmp_path))
        give(tmp_path, "save")
        with progress.task("train", 5, accepts=("save",)) as activity:
            activity(1)
            taken += activity.take()
            activity(1)
            taken += activity.take()
        assert taken == ["save"]
        give(tmp_path, "validate")
        give(tmp_path, "stop")
        with pytest.raises(StopAskedError), progress.task("render", 5) as activity:
            activity(1)
    answers = [(event.command, event.outcome) for event in heard if isinstance(event, Answered)]
    assert answers == [("validate", "refused"), ("stop", "done")]
    assert heard[-1].type == "command", "a stopped activity has no last event"
    assert not any(isinstance(event, Progressed) and event.stage == "render" and event.last for event in heard)


def test_nobody_is_asked_where_nothing_runs(tmp_path):
    with pytest.raises(InputError, match="is running there"):
        give(tmp_path, "stop")
    assert not (tmp_path / "commands").exists()


def test_the_disk_is_asked_at_most_once_a_second(tmp_path):
    inbox = Inbox(tmp_path)
    assert inbox() == ()
    with hold(tmp_path, "limner run"):
        give(tmp_path, "stop")
        assert inbox() == ()
        inbox._next = 0.0
        assert list(inbox()) == ["stop"]
