"""Help, versions, exit codes and what other programs read."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

import limner.running.run as study_module
from limner import __version__
from limner.cli.main import app
from tests.drawn import write_photos
from tests.studies import write_study

COMMANDS = [command.callback.__name__ for command in app.registered_commands]


def test_the_version(limner):
    assert limner("--version").out == f"limner {__version__}\n"
    assert limner("--version").code == 0


def test_the_help_names_every_command(limner):
    ended = limner("--help")
    assert ended.code == 0
    assert all(f" {name} " in ended.out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(limner, command):
    ended = limner(command, "--help")
    assert ended.code == 0
    assert f"Example: limner {command} " in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nonsense"], "limner: No such command 'nonsense'; see limner --help\n"),
        (["run", "a.toml", "--nonsense"], "limner: No such option: --nonsense; see limner --help\n"),
        (["run"], "limner: Missing argument 'study'; see limner --help\n"),
        (["render", "a", "--seed", "x"], "limner: Invalid value for '--seed': "),
    ],
)
def test_what_cannot_be_parsed(limner, arguments, said):
    ended = limner(*arguments)
    assert ended.code == 2
    assert ended.err.startswith(said)
    assert ended.err.count("\n") == 1


def test_without_a_command_the_help_is_shown(limner):
    ended = limner()
    assert ended.code == 2
    assert "Usage" in ended.out + ended.err
    assert "limner: " not in ended.err


def test_debug_shows_the_traceback_and_keeps_the_exit_code(limner, tmp_path):
    plain = limner("run", tmp_path / "absent.toml")
    ended = limner("--debug", "run", tmp_path / "absent.toml")
    assert ended.code == plain.code == 2
    assert ended.err.startswith("Traceback (most recent call last)")
    assert ended.err.splitlines()[-1] == plain.err.strip()


def test_a_failure_is_one_line_and_exit_code_1(limner, tiny_folder, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("the machine is on fire")

    monkeypatch.setattr(study_module, "load_base", fail)
    ended = limner("run", write_study(tmp_path, tiny_folder), "--out", tmp_path / "run")
    assert ended.code == 1
    assert ended.err.splitlines()[-1].startswith("limner: RuntimeError: the machine is on fire (limner --debug")


def test_ctrl_c_says_how_to_go_on(limner, tiny_folder, tmp_path, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_module, "load_base", interrupt)
    ended = limner("run", write_study(tmp_path, tiny_folder), "--out", tmp_path / "run")
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "limner: interrupted; run the same command again to continue where it stopped"


def test_prepare_prints_its_manifest_as_json(limner, tmp_path):
    photos = write_photos(tmp_path / "photos")
    ended = limner("prepare", photos, "--out", tmp_path / "crops", "--size", 64, "--focus", "center", "--json")
    assert ended.code == 0
    record = json.loads(ended.out)
    assert len(record["photos"]) == 5
    assert record == json.loads((tmp_path / "crops" / "manifest.json").read_text())
    again = limner("prepare", photos, "--out", tmp_path / "crops", "--size", 64, "--focus", "center")
    assert again.out.startswith("5 crops in ")
    assert "contact.jpg" in again.out


def test_a_stage_prints_where_the_run_is(limner, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_study(tmp_path, tiny_folder)
    ended = limner("train", "study.toml", "--json", "--device", "cpu")
    assert ended.code == 0
    assert json.loads(ended.out) == {"run": "runs/study"}
    assert {path.name for path in (tmp_path / "runs" / "study" / "adapters").iterdir()} >= {"full", "lora-1"}
    assert "train lora-1" in ended.err
    again = limner("train", "study.toml", "--device", "cpu")
    assert (again.out, again.err) == ("run: runs/study\n", "")


def test_help_is_fast_and_loads_no_torch():
    code = (
        "import sys; sys.argv = ['limner', 'run', '--help']\n"
        "from limner.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'diffusers', 'transformers', 'cv2', 'numpy'} & set(sys.modules)\n"
        "    print(end.code, sorted(heavy), file=sys.stderr)"
    )
    began = time.perf_counter()
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == "0 []\n"
    assert "Example: limner run" in ended.stdout
    assert time.perf_counter() - began < 5  # about 0.3 s on a quiet machine; with torch it would be 3 s and more


def test_it_runs_as_a_module():
    ended = subprocess.run(
        [sys.executable, "-m", "limner", "run", "absent.toml"], capture_output=True, text=True, check=False, timeout=120
    )
    assert ended.returncode == 2
    assert ended.stderr == "limner: absent.toml: there is no such file; name a study (.toml)\n"
    assert ended.stdout == ""
