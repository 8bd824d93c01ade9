"""Run somebody's script in this process, unchanged, and note when its optimizer steps and how much memory it took.

`python -m bench.observed RECORD SCRIPT [ARGUMENTS…]`. The script must read each step's loss back, as diffusers' scripts
do: then the time between two steps is the time of a step.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from typing import Any

STARTED = time.time()


def main(arguments: list[str]) -> None:
    """Run the script under a global hook that torch calls after every optimizer step."""
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from bench.records import Record, memory_used

    record_path, script, *rest = arguments
    marks: list[tuple[int, float]] = []
    memory: dict[str, Any] = {}

    def after_step(*_: Any) -> None:
        marks.append((len(marks) + 1, time.time()))
        if torch.cuda.is_initialized():  # a peak of the training, not of what the script does with its result
            memory["reserved_bytes"] = torch.cuda.max_memory_reserved()

    register_optimizer_step_post_hook(after_step)
    sys.argv = [script, *rest]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        Record(STARTED, time.time(), marks, **memory_used() | memory).write(Path(record_path))


if __name__ == "__main__":
    main(sys.argv[1:])
