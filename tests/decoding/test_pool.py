"""Processes that decode: what crashes or hangs costs one photo, and nothing depends on how many there are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

from limner.decoding import Decoders, ReadingRules, RefusedPhotoError, read_photo
from tests.drawn import draw_subject

RULES = ReadingRules(64)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="signals and limits as Linux has them")


@pytest.fixture
def photos(tmp_path):
    paths = [tmp_path / f"{index}.{ending}" for index, ending in enumerate(["png", "jpg", "webp", "bmp", "gif"])]
    for index, path in enumerate(paths):
        draw_subject((150 + index, 140), index).save(path)
    (tmp_path / "bad.jpg").write_text("no picture")
    return [*paths[:2], tmp_path / "bad.jpg", *paths[2:]]


def decoded_here(path):
    try:
        return read_photo(path, RULES)
    except RefusedPhotoError as error:
        return error


def told(outcome):
    return str(outcome) if isinstance(outcome, RefusedPhotoError) else outcome.pixels.tobytes()


@pytest.mark.parametrize("processes", [1, 3])
def test_photos_come_in_order_and_as_they_are_decoded_here(photos, processes):
    with Decoders(processes) as decoders:
        outcomes = [told(outcome) for outcome in decoders.read_all([(path, RULES) for path in photos])]
    assert outcomes == [told(decoded_here(path)) for path in photos]


def process_of(decoders):
    (process,) = decoders.running
    return process.popen


@LINUX
def test_a_crash_costs_one_photo(photos):
    with Decoders(1) as decoders:
        decoders.read(photos[0], RULES)
        process = process_of(decoders)
        process.send_signal(signal.SIGSTOP)

        def crash():
            time.sleep(0.3)
            process.send_signal(signal.SIGSEGV)
            process.send_signal(signal.SIGCONT)

        threading.Thread(target=crash).start()
        outcomes = list(decoders.read_all([(path, RULES) for path in photos[:2]]))
        assert "crashed (signal SIGSEGV)" in str(outcomes[0])
        assert np.array_equal(outcomes[1].pixels, read_photo(photos[1], RULES).pixels)
        assert process_of(decoders).pid != process.pid


@LINUX
def test_a_hang_costs_the_time_that_it_may_take(photos):
    with Decoders(1, seconds=0.5) as decoders:
        decoders.read(photos[0], RULES)
        process_of(decoders).send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(RefusedPhotoError, match=r"longer than 0\.5 seconds"):
            decoders.read(photos[0], RULES)
        assert time.monotonic() - began < 5
        decoders.seconds = 20
        assert decoders.read(photos[0], RULES).source_size == (150, 140)


@LINUX
def test_what_is_no_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(RefusedPhotoError, match="no regular file"), Decoders(1) as decoders:
        decoders.read(tmp_path / "a.png", RULES)


def test_processes_end_with_the_block_and_when_the_caller_gives_up(photos):
    with Decoders(2) as decoders:
        outcomes = decoders.read_all([(path, RULES) for path in photos])
        next(outcomes)
        processes = [process.popen for process in decoders.running]
        outcomes.close()
    assert processes
    assert all(process.poll() is not None for process in processes)


def test_large_photos_are_not_decoded_all_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("limner.decoding.pool.MOST_PIXELS_AT_ONCE", 100_000)
    for index in range(6):
        Image.new("RGB", (400, 300 + index)).save(tmp_path / f"{index}.png")  # each alone is more
    with Decoders(3) as decoders:
        wanted = [(tmp_path / f"{index}.png", RULES) for index in range(6)]
        assert [photo.source_size[1] for photo in decoders.read_all(wanted)] == [300, 301, 302, 303, 304, 305]


@LINUX
@pytest.mark.parametrize(("attempt", "error"), [
    ("import socket; socket.socket()", "PermissionError"),
    ("import os; os.execv('/bin/true', ['true'])", "PermissionError"),
    ("open(folder + '/new', 'wb', 0).write(b'x')", "OSError"),
    ("bytearray(5 << 30)", "MemoryError"),
])  # fmt: skip
def test_what_a_decoder_gives_up(tmp_path, attempt, error):
    code = (
        "import signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from limner.decoding.confinement import confine\n"
        f"folder = {str(tmp_path)!r}\nconfine()\n"
        f"try:\n    {attempt}\nexcept {error}:\n    sys.exit(7)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 7
