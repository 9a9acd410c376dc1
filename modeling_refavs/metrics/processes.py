"""The processes of one `torchrun`, or the only one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch


@dataclass(frozen=True)
class Processes:
    """This process is number `rank` of `count`; `local_rank` counts those on this machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.count > 1:
            torch.distributed.barrier()

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes through before the others do."""
        if self.rank:
            self.wait()
        yield
        if not self.rank:
            self.wait()


@contextmanager
def join_processes() -> Iterator[Processes]:
    """What torchrun set up. Clips take their time, so that one process may wait long for another."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Processes()
        return
    torch.distributed.init_process_group("gloo", timeout=timedelta(days=7))
    try:
        yield Processes(
            rank=torch.distributed.get_rank(),
            count=torch.distributed.get_world_size(),
            local_rank=int(os.environ["LOCAL_RANK"]),
        )
    finally:
        torch.distributed.destroy_process_group()
