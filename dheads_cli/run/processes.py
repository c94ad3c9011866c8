"""The processes of one training run, as torchrun starts them: their shares of a batch, how they agree and end.

Each process holds the whole model, makes its part of every batch and computes it; DistributedDataParallel takes the
mean of their gradients, so all make the same step. The first process alone writes and speaks.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from dheads_cli.errors import DheadsError
from dheads_cli.run.batch_parts import Part

LossOf: TypeAlias = Callable[..., dict[str, Tensor]]

# The others wait while the first validates and draws; a process that dies is noticed at once, by its connections.
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Processes:
    """Which of a run's processes this is.

    Attributes:
        rank: its number, 0 ... n - 1.
        n: how many there are, over all machines.
        local_rank: its number on its machine.
    """

    rank: int = 0
    n: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and speaks."""
        return self.rank == 0

    def share(self, batch_size: int, accumulate: int) -> Part:
        """The part of a batch of batch_size samples that this process makes and computes, `accumulate` parts of it.

        Raises:
            DheadsError: they can't all have the same size.
        """
        if batch_size % (self.n * accumulate):
            parts = [f"{self.n} processes"] * (self.n > 1) + [f"train.accumulate={accumulate}"] * (accumulate > 1)
            raise DheadsError(
                f"train.batch_size={batch_size}, the samples of a step over all processes, can't be cut evenly by "
                f"{' and '.join(parts)}: make it a multiple of {self.n * accumulate}"
            )
        size = batch_size // self.n
        return Part(self.rank * size, size, batch_size)

    def device(self, device: torch.device) -> torch.device:
        """This process's own GPU where the run is on GPUs, else the device as it is.

        Raises:
            DheadsError: the machine has fewer GPUs than processes.
        """
        if self.n == 1 or device.type != "cuda":
            return device
        if self.local_rank >= torch.cuda.device_count():
            raise DheadsError(
                f"process {self.local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}; "
                "start no more processes than that (torchrun --nproc-per-node)"
            )
        torch.cuda.set_device(self.local_rank)
        return torch.device("cuda", self.local_rank)

    def spread(self, loss_of: LossOf, modules: Mapping[str, nn.Module]) -> LossOf:
        """The same loss of modules, whose backward pass leaves the mean of all processes' gradients in each of them."""
        if self.n == 1:
            return loss_of
        return DistributedDataParallel(_WithModules(loss_of, modules))

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """The mean of each value over all processes, the same in each of them."""
        if self.n == 1:
            return values
        row = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(row)
        return dict(zip(values, (row / self.n).tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether it holds in any process."""
        return flag if self.n == 1 else self.mean({"flag": float(flag)})["flag"] > 0

    def check_alike(self, facts: dict[str, str]) -> None:
        """Make sure that all processes begin with the same.

        Args:
            facts: what has to be the same, in words -> as this process has it.

        Raises:
            DheadsError: one has something else than the first, as on a machine without the others' disk.
        """
        all_facts: list[dict[str, str]] = [{} for _ in range(self.n)]
        dist.all_gather_object(all_facts, facts)
        for rank, others in enumerate(all_facts):
            if unlike := [name for name, value in all_facts[0].items() if others[name] != value]:
                name = unlike[0]
                raise DheadsError(
                    f"{name}: process {rank} has {others[name]}, but process 0 has {all_facts[0][name]}: all machines "
                    "must have the same recipe and corpus, and the run folder on a disk that they share"
                )


class _WithModules(nn.Module):
    """A loss as the module that DistributedDataParallel wants: the owner of the parameters."""

    def __init__(self, loss_of: LossOf, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.loss_of, self.owned = loss_of, nn.ModuleDict(modules)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.loss_of(*args, **kwargs)


def current() -> Processes:
    """The processes that this one has joined."""
    if not (dist.is_available() and dist.is_initialized()):
        return Processes()
    return Processes(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


def without_exchange(loss_of: LossOf) -> contextlib.AbstractContextManager[None]:
    """Backward passes inside this block add to this process's own gradients; the next one outside takes the mean."""
    return loss_of.no_sync() if isinstance(loss_of, DistributedDataParallel) else contextlib.nullcontext()


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Join the other processes of the run for the block where torchrun started several; all but the first are silent.

    An error in one process ends them all, and is told once.

    Args:
        device: what the command was given; gradients go by nccl between GPUs, else by gloo.

    Raises:
        DheadsError: they can't be reached, or were lost on the way.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    on_gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    try:
        store, rank, n = next(rendezvous("env://", timeout=TIMEOUT))
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=n, timeout=TIMEOUT)
    except (ValueError, RuntimeError) as error:
        raise DheadsError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the processes can't join ({str(error).splitlines()[0]}): "
            "start them with torchrun, which sets what they need"
        ) from error
    with contextlib.ExitStack() as stack:
        if rank:
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        try:
            yield
        except BaseException as error:
            if not _is_first_to_fail(store, error):
                raise SystemExit(1) from None  # another process says why
            if _is_lost_connection(error):
                raise DheadsError(
                    f"process {rank} of {n} lost the others ({str(error).splitlines()[0]}): one was killed, or its "
                    "machine or network failed; the same command goes on from the last checkpoint"
                ) from error
            raise
    dist.barrier()  # none leaves while another still talks: a closed connection aborts it
    dist.destroy_process_group()


def _is_first_to_fail(store: Any, error: BaseException) -> bool:
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:  # the store went with the process that failed first
        return not _is_lost_connection(error)


def _is_lost_connection(error: BaseException) -> bool:
    # gloo's errors are plain RuntimeErrors that begin with the place in its source.
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
