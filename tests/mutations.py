"""Whether the tests notice when the code goes wrong: `python -m tests.mutations`, or `make mutations`.

Each mutation replaces a piece of a file in a copy of the sources and runs the tests named beside it, which must fail.
A piece that is no longer there is a fault too, so this list cannot quietly test nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
COPIED = ("src", "tests", "miniature", "bench", "docs", "README.md", "pyproject.toml")
NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*")
ALL_PASSED, SOME_FAILED = 0, 1  # pytest's exit codes


@dataclass(frozen=True)
class Mutation:
    """`old`, which stands once in `file` (below src/limner), becomes `new`; one of `tests` should fail then."""

    file: str
    old: str
    new: str
    tests: str

    def apply(self, sources: Path) -> str:
        """Change the file; returns what it was. Raises ValueError when `old` does not stand in it just once."""
        path = sources / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise ValueError(f"{self.file} has {self.old!r} {text.count(self.old)} times; bring this list up to date")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")
        return text


RANDOMNESS, SCHEDULE, OBJECTIVE = "diffusion/randomness.py", "diffusion/noise_schedule.py", "diffusion/objective.py"
DISK, KINDS, EXAMPLES, STEP = "artifacts/disk.py", "artifacts/kinds.py", "training/examples.py", "training/step.py"
LIKENESS, COMPARISON, GRID = "measuring/likeness.py", "statistics/comparison.py", "rendering/grid.py"
TRAIN, TOGETHER, RENDER = (f"tests/stages/test_{name}.py" for name in ("train", "train_together", "render"))
DRAWN, PARTS, KEYS = "tests/training/test_examples.py", "tests/training/test_parts.py", "tests/stages/test_keys.py"
CELLS = f"tests/rendering/test_grid.py {RENDER}"
INTERRUPTED = "tests/stages/test_train_interrupted.py tests/training/test_loop.py"

MUTATIONS = [
    # Randomness
    Mutation(RANDOMNESS, "ROUNDS = 10", "ROUNDS = 9", "tests/diffusion/test_randomness.py"),
    Mutation(RANDOMNESS, 'f"{seed}\\0{purpose}"', 'f"{seed}{purpose}"', "tests/diffusion/test_randomness.py"),
    Mutation(RANDOMNESS, 'f"{seed}\\0{purpose}"', 'f"{seed}\\0"', "tests/diffusion/test_randomness.py"),
    Mutation(RANDOMNESS, "high = ((index >> 32) & MASK)", "high = (0 * index)", "tests/diffusion"),
    Mutation(RANDOMNESS, "-2.0 * torch.log", "-1.0 * torch.log", "tests/diffusion/test_randomness.py"),
    Mutation(RANDOMNESS, "+ 0.5) * 2**-24", "+ 1.0) * 2**-24", "tests/diffusion/test_randomness.py"),
    Mutation(RANDOMNESS, "(words * below) >> 32", "words % below", "tests/diffusion/test_randomness.py"),
    # What training minimises
    Mutation(OBJECTIVE, "prior_loss_weight * of_class /", "of_class /", "tests/diffusion"),
    Mutation(OBJECTIVE, "(gamma / snr).clamp(max=1.0)", "(snr / gamma).clamp(max=1.0)", "tests/diffusion"),
    Mutation(OBJECTIVE, "/ (snr + 1.0)", "/ snr", "tests/diffusion"),
    Mutation(OBJECTIVE, "noise + strength * channel", "noise + channel", "tests/diffusion"),
    Mutation(SCHEDULE, "first**0.5, last**0.5", "first, last", "tests/diffusion"),
    Mutation(SCHEDULE, "signal * noise - spread * latents", "signal * noise + spread * latents", "tests/diffusion"),
    Mutation(SCHEDULE, "(roots - last) * first / (first - last)", "roots - last", "tests/diffusion"),
    Mutation(STEP, "target(self.prediction_type,", 'target("epsilon",', f"{PARTS} tests/training/test_loop.py {TRAIN}"),
    Mutation(STEP, "index_select(0, self.seed_rows).flatten(0, 1)", "flatten(0, 1)", TOGETHER),
    Mutation(STEP, "torch.stack(parts).mean(0)", "torch.stack(parts).sum(0)", TRAIN),
    Mutation(STEP, "self.number.expand(len(applied)) + 1)", "self.number.expand(len(applied)))", INTERRUPTED),
    # What a batch is drawn from
    Mutation(EXAMPLES, "uniform_of(flip_words[:, 0]) < 0.5", "uniform_of(flip_words[:, 0]) < 2", DRAWN),
    Mutation(EXAMPLES, "positions = number * count + offsets", "positions = number + offsets", DRAWN),
    Mutation(EXAMPLES, '"base": base_hash, "pictures"', '"pictures"', DRAWN),
    Mutation(EXAMPLES, "{key}-mirrored.safetensors", "{key}.safetensors", DRAWN),
    Mutation(EXAMPLES, 'streams("posterior", "noise")', 'streams("noise", "noise")', DRAWN),
    Mutation(EXAMPLES, "if pictures.mirrored is not None:", "if False:", DRAWN),
    Mutation(EXAMPLES, "shape[0] + shape[0] % 2)", "2)", DRAWN),
    Mutation(EXAMPLES, "self.drawing.scaling_factor)", "1.0)", DRAWN),
    Mutation("training/ema.py", "(10.0 + number)", "(1.0 + number)", f"{PARTS} tests/training/test_loop.py"),
    Mutation("training/learning_rate_schedule.py", "peak * step / warmup_steps", "peak", PARTS),
    Mutation("training/learning_rate_schedule.py", "max(1, steps - warmup_steps)", "max(1, steps)", PARTS),
    Mutation("methods/lora.py", '"text_encoder": 1 << 16', '"text_encoder": 0', TRAIN),
    # Keys
    Mutation("stages/train.py", '"validation", "checkpoint_every_steps"', '"validation", "flip"', KEYS),
    Mutation("stages/train.py", '"photos": photo_set.training_hash,', "", TRAIN),
    Mutation("stages/train.py", '"start": start.content_hash if start else None,', "", KEYS),
    Mutation("stages/train.py", 'if run.variant.validation.keep != "last":  # then', "if False:  # then", KEYS),
    Mutation("stages/render.py", 'exclude={"batch_size"}', 'exclude={"batch_size", "precision"}', KEYS),
    Mutation("stages/class_images.py", 'exclude={"batch_size", "folder"}', 'exclude={"seed", "folder"}', KEYS),
    Mutation("stages/control.py", 'exclude={"model", "references"}', 'exclude={"model", "seeds", "references"}', KEYS),
    Mutation("opening.py", 'vae | ({"clip_skip": clip_skip} if clip_skip else {})', "vae", KEYS),
    Mutation(GRID, 'negative_prompt,\n            "seed": request.seed', 'negative_prompt', CELLS),
    Mutation(GRID, '"adapter": column.weights, **self', "**self", CELLS),
    Mutation(GRID, "float(column.strength),", "1.0,", CELLS),
    Mutation(KINDS, "if not names and not repeats:", "if not repeats:", f"tests/stages/test_prepare.py {TRAIN}"),
    Mutation(KINDS, "if not names and not repeats:", "if not names:", "tests/stages/test_prepare_checks.py"),
    # Artefacts
    Mutation("artifacts/manifest.py", "manifest.key != key", "False", f"tests/artifacts {TRAIN}"),
    Mutation("artifacts/manifest.py", "and hash_files(files) == list(manifest.files.values())", "", "tests/artifacts"),
    Mutation(DISK, "temporary.unlink(missing_ok=True)", "pass", "tests/artifacts"),
    Mutation(DISK, '(aside / "old").replace(folder)', "pass", "tests/artifacts"),
    Mutation("training/checkpoint.py", "manifest.key != key", "False", INTERRUPTED),
    Mutation("training/checkpoint.py", "KEPT = 2", "KEPT = 1", INTERRUPTED),
    # Scores and what they carry
    Mutation(LIKENESS, "(renders @ photos.T).mean(1)", "(renders @ photos.T).amax(1)", "tests/measuring"),
    Mutation(LIKENESS, ".fill_diagonal_(torch.nan).nanmean()", ".mean()", "tests/measuring"),
    Mutation(LIKENESS, "(value - floor) / (top - floor)", "value / top", "tests/measuring"),
    Mutation(LIKENESS, "renders, views).amax(2)", "renders, views).mean(2)", "tests/measuring"),
    Mutation(LIKENESS, "return self.nearest[-1]", "return self.nearest[0]", "tests/measuring"),
    Mutation(COMPARISON, "FEWEST_SEEDS = 3", "FEWEST_SEEDS = 2", "tests/statistics"),
    Mutation(COMPARISON, "return self.adjusted_p <= LEVEL", "return self.p <= LEVEL", "tests/statistics"),
    Mutation(COMPARISON, "critical_t(self.level,", "critical_t(LEVEL,", "tests/statistics"),
]  # fmt: skip


def main() -> int:
    """Run every mutation whose file's name holds one of the words given, or all; returns 1 when one survives."""
    words = sys.argv[1:]
    chosen = [each for each in MUTATIONS if not words or any(word in each.file for word in words)]
    faults = []
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for part in COPIED:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, copy / part, ignore=NOT_COPIED)
            else:
                shutil.copyfile(source, copy / part)
        for mutation in chosen:
            outcome = _outcome(mutation, copy)
            print(f"{outcome:10}{mutation.file}: {mutation.old!r} -> {mutation.new!r}", flush=True)
            if outcome != "noticed":
                faults.append(mutation)
    print(f"{len(chosen) - len(faults)} of {len(chosen)} mutations were noticed")
    return 1 if faults else 0


def _outcome(mutation: Mutation, copy: Path) -> str:
    sources = copy / "src" / "limner"
    try:
        before = mutation.apply(sources)
    except ValueError as error:
        print(error)
        return "gone"
    environment = {**os.environ, "PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n0", "-p", "no:cacheprovider", *mutation.tests.split()]
    try:
        ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    finally:
        (sources / mutation.file).write_text(before, encoding="utf-8")
    if ended.returncode not in (ALL_PASSED, SOME_FAILED):
        print(ended.stdout[-2000:], ended.stderr[-2000:])
        return "error"
    return "noticed" if ended.returncode == SOME_FAILED else "SURVIVED"


if __name__ == "__main__":
    sys.exit(main())
