"""`python -m bench TABLE`: measure one table of ours beside the peer's, print it as Markdown and keep it as JSON."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench import (
    choosing,
    engine,
    focal,
    formats,
    measuring,
    peaks,
    photos,
    processor,
    processor_demo,
    quality,
    recognition,
    tables,
    whole,
)
from bench.bases import SD15, TINY, write_base
from bench.studies import Ground
from bench.table import append_json, markdown
from limner.base import find_base
from limner.embeddings.efficientnet import EFFICIENTNET
from limner.memory import read_shapes

ON_A_GPU = {
    "dreambooth-step": ("A DreamBooth step", tables.dreambooth_step),
    "lora-step": ("A LoRA step", tables.lora_step),
    "rank-sweep": ("Seven ranks together", tables.rank_sweep),
    "memory": ("Memory", tables.memory),
    "render": ("Rendering", tables.render),
    "control": ("Rendering through ControlNet", tables.control),
    "class-images": ("Class images", tables.class_images),
}
OURS_ALONE = {
    "engine": ("The engine alone", engine.engine),
    "peaks": ("Peak memory and its prediction", peaks.peaks),
}
ON_A_PROCESSOR = {
    "demo": ("The demo on two cores", processor.demo),
    "cpu-settings": ("A training step on the miniature, two cores, by setting", processor.cpu_settings),
    "peer-cpu-demo": ("The demo's training as whole commands, two cores", processor_demo.peer_cpu_demo),
    "peer-cpu-full": ("DreamBooth on the miniature, two cores", lambda bench: processor.peer_cpu(bench, "full")),
    "peer-cpu-lora": ("A LoRA on the miniature, two cores", lambda bench: processor.peer_cpu(bench, "lora")),
}

OTHERS = ("measure", "photos", "focal", "formats", "coursework", "quality", "choosing", "recognition")


def make_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("table", choices=[*ON_A_GPU, *OURS_ALONE, *OTHERS, *ON_A_PROCESSOR])
    parser.add_argument(
        "--peers", type=Path, help="folder of train_dreambooth.py and its siblings; without: ours alone"
    )
    parser.add_argument("--device", default="cuda", help="cuda or cpu, for the tables that run on a GPU")
    parser.add_argument("--base", type=Path, help="a diffusers folder instead of random weights in SD 1.5's shapes")
    parser.add_argument("--work", type=Path, default=Path("runs/bench"), help="folder for bases, pictures and runs")
    parser.add_argument("--out", type=Path, help="file that results are appended to; WORK/results.jsonl if left out")
    parser.add_argument("--brief", action="store_true", help="fewer rows and shorter windows, where time is dear")
    parser.add_argument("--subjects", type=Path, help="`quality`, `choosing`: a folder of square crops a subject")
    parser.add_argument("--processes", type=int, default=2, help="`quality`, `choosing`: trainings at once")
    parser.add_argument(
        "--pictures", type=Path, help="`focal`: a folder of pictures with their head boxes in FOLDER.csv"
    )
    parser.add_argument("--runs", type=Path, help="`recognition`: what `limner subjects` wrote, a run for each subject")
    parser.add_argument("--training-steps", type=int, help="`quality`: instead of what the base recommends")
    add_choosing(parser)
    parser.add_argument(
        "--steps-share", type=float, default=1.0, help="`peer-cpu-demo`: share of the steps that is taken"
    )
    parser.add_argument(
        "--models", nargs="+", default=[EFFICIENTNET, "base"], help="for `measure`: hub ids, folders, or what ships"
    )
    parser.add_argument("--split", action="store_true", help="profile some early steps of ours: GPU time by kernels")
    return parser


def add_choosing(parser: argparse.ArgumentParser) -> None:
    """The options of `choosing`."""
    group = parser.add_argument_group("choosing")
    group.add_argument("--seconds", type=float, default=86400, help="stop by then and tell what is whole")
    group.add_argument("--steps-factor", type=float, default=2.0, help="times the steps that the base recommends")
    group.add_argument("--schedule", choices=["constant", "linear", "cosine"], help="instead of the recommended one")
    group.add_argument("--only", nargs="+", default=(), help="these subjects alone")
    group.add_argument("--training-seeds", nargs="+", type=int, default=choosing.TRAINING_SEEDS)
    group.add_argument("--methods", nargs="+", choices=choosing.METHODS, default=choosing.METHODS)


def choosing_report(options: argparse.Namespace) -> str:
    """The comparison of rules, on the embedded miniature unless another base is given."""
    if options.subjects is None:
        raise SystemExit("choosing needs --subjects FOLDER, with a folder of square crops for each subject")
    base = str(options.base.resolve()) if options.base else "miniature"
    steps = choosing.recommended_steps(base, options.steps_factor)
    plan = choosing.Plan(
        options.work, options.subjects, base, options.device, options.processes, options.seconds, steps,
        options.only, options.training_seeds, options.methods,
        {"learning_rate_schedule": options.schedule} if options.schedule else {},
    )  # fmt: skip
    return choosing.choosing(plan)


def ground_of(options: argparse.Namespace) -> Ground:
    """The given base or one in SD 1.5's shapes; for what is ours alone on a processor, a tiny one."""
    if options.base is None and options.table in OURS_ALONE and options.device == "cpu":
        base = write_base(options.work / "tiny", TINY)
    else:
        base = options.base or write_base(options.work / "sd15", SD15, options.device)
    size_px = read_shapes(find_base(str(base))).native_size[0]
    return Ground(options.work, base, size_px, options.device)


def main() -> None:
    """Measure one table."""
    options = make_parser().parse_args()
    began = time.time()
    by_table = {
        "quality": quality_report,
        "choosing": choosing_report,
        "focal": focal_report,
        "photos": photos_report,
        "recognition": recognition_report,
    }
    print(by_table.get(options.table, speed_report)(options))
    print(f"Measured by `python -m bench {options.table}` in {time.time() - began:.0f} s.")


def quality_report(options: argparse.Namespace) -> str:
    """The comparison of paths, on the embedded miniature unless another base is given."""
    if options.subjects is None:
        raise SystemExit("quality needs --subjects FOLDER, with a folder of square crops for each subject")
    base = str(options.base.resolve()) if options.base else "miniature"
    subjects, processes = options.subjects, options.processes
    return quality.quality(options.work, subjects, base, options.device, processes, options.training_steps)


def focal_report(options: argparse.Namespace) -> str:
    """Where crops look, and how fast heads are found."""
    if options.pictures is None:
        raise SystemExit("focal needs --pictures FOLDER, with the head boxes in FOLDER.csv")
    return focal.focal(options.pictures, options.device, options.brief)


def recognition_report(options: argparse.Namespace) -> str:
    """Whether likeness names the right subject."""
    if options.runs is None:
        raise SystemExit("recognition needs --runs FOLDER, what `limner subjects` wrote")
    return recognition.recognition(options.runs, options.device)


def photos_report(options: argparse.Namespace) -> str:
    """How fast photos are decoded and prepared."""
    return photos.photos(options.work)


def speed_report(options: argparse.Namespace) -> str:
    """Measure one table's rows, keep them, and write them as Markdown."""
    results = options.out or options.work / "results.jsonl"
    if options.table in ON_A_PROCESSOR:
        title, measure = ON_A_PROCESSOR[options.table]
        more = [options.steps_share] if options.table == "peer-cpu-demo" else []
        rows = measure(tables.Bench(processor.miniature_ground(options.work), options.peers), *more)
    elif options.table == "measure":
        title, rows = "Scoring", measuring.measuring(options.work / "measure", options.device, options.models)
    elif options.table == "formats":
        base = options.base or write_base(options.work / "sd15", SD15)
        title, rows = "Converting and exporting", formats.formats(options.work, base, brief=options.brief)
    else:
        lengths = tables.BRIEF if options.brief else tables.Lengths()
        bench = tables.Bench(ground_of(options), options.peers, lengths, options.split)
        if options.table == "coursework":
            title, rows = "A whole coursework", whole.coursework(bench, results)
        else:
            title, measure = (ON_A_GPU | OURS_ALONE)[options.table]
            rows = measure(bench)
    append_json(results, options.table, rows)
    return markdown(title, rows)


if __name__ == "__main__":
    main()
