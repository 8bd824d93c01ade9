"""Processes that decode: what crashes or hangs costs one photo, and nothing depends on how many there are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

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


def cut_out(place, photo):
    """All that can be had of a photo that a process holds."""
    crops = [photo.cut((3 * place, 5, 100, 90), (64, 48)), photo.cut((0, 0, *photo.size), (20, 20))]
    return photo.size, photo.source_size, photo.view.tobytes(), *(crop.tobytes() for crop in crops)


def here(place, path):
    """The same without a process."""
    try:
        photo = read_photo(path, RULES)
    except RefusedPhotoError as error:
        return str(error)
    crops = [photo.cut((3 * place, 5, 100, 90), (64, 48)), photo.cut((0, 0, *photo.image.size), (20, 20))]
    return photo.image.size, photo.source_size, photo.view()[0].tobytes(), *(crop.tobytes() for crop in crops)


def all_of(decoders, paths, work=cut_out):
    outcomes = decoders.each([(path, RULES) for path in paths], work)
    return [str(outcome) if isinstance(outcome, RefusedPhotoError) else outcome for outcome in outcomes]


def source_size(place, photo):
    return photo.source_size


def read(decoders, path):
    with decoders.hold(path, RULES) as photo:
        return photo.source_size


@pytest.mark.parametrize("processes", [1, 3])
def test_photos_come_in_order_and_as_they_are_decoded_here(photos, processes):
    with Decoders(processes) as decoders:
        assert all_of(decoders, photos) == [here(place, path) for place, path in enumerate(photos)]


def test_a_view_is_small_but_never_smaller_than_there_is_need_to_see(tmp_path):
    for size, scale in (((2000, 1500), 4), ((900, 700), 1), ((6000, 200), 1), ((4000, 330), 2)):
        draw_subject(size, 1).save(tmp_path / "a.png")
        view, made_of = read_photo(tmp_path / "a.png", ReadingRules(512, full_scale=True)).view()
        assert made_of == scale
        assert view.shape == (-(-size[1] // scale), -(-size[0] // scale), 3)


def test_work_that_fails_ends_the_reading_and_the_processes(photos):
    with pytest.raises(ZeroDivisionError), Decoders(2) as decoders:
        all_of(decoders, photos, lambda place, photo: 1 // 0)
    assert all(process.popen.poll() is not None for process in decoders.running)


@LINUX
def test_a_crash_while_a_crop_is_cut_costs_that_photo(photos):
    def crash_once(place, photo):
        if place == 0:
            (process,) = decoders.running
            process.popen.kill()
        return photo.cut((0, 0, 9, 9), (9, 9)).shape

    with Decoders(1) as decoders:
        outcomes = all_of(decoders, photos[:2], crash_once)
    assert "crashed (signal SIGKILL)" in outcomes[0]
    assert outcomes[1] == (9, 9, 3)


def process_of(decoders):
    (process,) = decoders.running
    return process.popen


@LINUX
def test_a_crash_costs_one_photo(photos):
    with Decoders(1) as decoders:
        read(decoders, photos[0])
        process = process_of(decoders)
        process.send_signal(signal.SIGSTOP)

        def crash():
            time.sleep(0.3)
            process.send_signal(signal.SIGSEGV)
            process.send_signal(signal.SIGCONT)

        threading.Thread(target=crash).start()
        outcomes = all_of(decoders, photos[:2])
        assert "crashed (signal SIGSEGV)" in outcomes[0]
        assert outcomes[1] == here(1, photos[1])
        assert process_of(decoders).pid != process.pid


@LINUX
def test_a_hang_costs_the_time_that_it_may_take(photos):
    with Decoders(1, seconds=0.5) as decoders:
        read(decoders, photos[0])
        process_of(decoders).send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(RefusedPhotoError, match=r"longer than 0\.5 seconds"):
            read(decoders, photos[0])
        assert time.monotonic() - began < 5
        decoders.seconds = 20
        assert read(decoders, photos[0]) == (150, 140)


@LINUX
def test_what_is_no_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(RefusedPhotoError, match="not a regular file"), Decoders(1) as decoders:
        read(decoders, tmp_path / "a.png")


def test_processes_end_with_the_block_and_when_the_caller_gives_up(photos):
    with Decoders(2) as decoders:
        outcomes = decoders.each([(path, RULES) for path in photos], source_size)
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
        assert [size[1] for size in decoders.each(wanted, source_size)] == [300, 301, 302, 303, 304, 305]


def test_photos_of_more_than_half_the_room_are_never_held_together(tmp_path, monkeypatch):
    monkeypatch.setattr("limner.decoding.pool.MOST_PIXELS_AT_ONCE", 100_000)
    for index in range(4):
        Image.new("RGB", (300, 200)).save(tmp_path / f"{index}.png")
    held, most = [], []

    def hold(place, photo):
        held.append(place)
        time.sleep(0.05)
        most.append(len(held))
        held.remove(place)

    with Decoders(3) as decoders:
        list(decoders.each([(tmp_path / f"{index}.png", RULES) for index in range(4)], hold))
    assert most == [1, 1, 1, 1]


@LINUX
def test_the_memory_of_a_large_photo_is_given_back(tmp_path):
    Image.new("RGB", (6000, 5000)).save(tmp_path / "a.png", compress_level=1)  # 114 MiB as it lies in memory
    with Decoders(1) as decoders:
        with decoders.hold(tmp_path / "a.png", ReadingRules(64, full_scale=True)):
            held = resident_mib(decoders)
        with decoders.hold(tmp_path / "a.png", RULES):
            reduced = resident_mib(decoders)
        assert held - reduced > 60
        assert held - resident_mib(decoders) > 60


def resident_mib(decoders):
    status = Path(f"/proc/{process_of(decoders).pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


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
