"""Several GPUs: one process each, the gradients averaged between them; the first process decides and writes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is."""

    index: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process logs, validates and saves."""
        return self.index == 0

    def sum(self, values: Tensor) -> None:
        """Add up a tensor over all processes, in place."""
        if self.count > 1:
            distributed.all_reduce(values)

    def share(self, values: Tensor, source: int = 0) -> Tensor:
        """The tensor of process `source`, in place."""
        if self.count > 1:
            distributed.broadcast(values, src=source)
        return values

    def agree(self, value: float) -> float:
        """The first process's value; waits on the host alone."""
        return float(self.share(torch.tensor(value, dtype=torch.float64)))


def join() -> Ranks:
    """Meet the other processes if `spawn` started several."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count > 1 and not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend)
    return Ranks(int(os.environ.get("RANK", "0")), count)


def spawn(count: int) -> int:
    """Run this command once for each of `count` GPUs; the first exit code that is not 0, or 0."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "miniature", *sys.argv[1:]]
    common = os.environ | {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    # Each process sees one GPU under the same name, so that compiled code is found again by all of them.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(count)))).split(",")
    processes = [
        subprocess.Popen(command, env=common | {"RANK": str(rank), "CUDA_VISIBLE_DEVICES": visible[rank]})
        for rank in range(count)
    ]
    codes = []
    for process in processes:
        codes.append(process.wait())
        if codes[-1] != 0:
            for other in processes:
                other.kill()
    return next((code for code in codes if code != 0), 0)
