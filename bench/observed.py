"""Run somebody's script in this process, unchanged, and note when its optimizer steps and how much memory it took.

`python -m bench.observed RECORD SCRIPT [ARGUMENTS…]`. The script must read each step's loss back, as diffusers' scripts
do: then the time between two steps is the time of a step.
"""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path

STARTED = time.time()


def main(arguments: list[str]) -> None:
    """Run the script under a global hook that torch calls after every optimizer step."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from bench.records import Record, memory_used

    record_path, script, *rest = arguments
    marks: list[tuple[int, float]] = []
    register_optimizer_step_post_hook(lambda *_: marks.append((len(marks) + 1, time.time())))
    sys.argv = [script, *rest]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        Record(STARTED, time.time(), marks, **memory_used()).write(Path(record_path))


if __name__ == "__main__":
    main(sys.argv[1:])
