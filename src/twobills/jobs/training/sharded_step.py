"""One training step by many processes: ``TrainingStep`` for a network that is spread over them.

Each process runs its rows of the global batch; the loss is divided by the targets of the whole, and its parts and the
gradients are summed. So loss, norm and weights are those of one process, but for the order of fp32 sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from twobills.errors import RequestError
from twobills.jobs.data.batch import Batch
from twobills.jobs.device import TORCH_DTYPES
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.profile import CountBytes, count_flops
from twobills.jobs.training.passes import ThroughAutograd
from twobills.jobs.training.processes import Processes
from twobills.jobs.training.sharded import ShardedOptimizer, gathered, spread, sync_gradients, way_of
from twobills.jobs.training.step import Accept, StepResult
from twobills.specs.training import TrainingSpec


class ShardedStep:
    """A network, its optimiser and its processes, ready to learn. All make one, and call every method alike.

    The weights are those of process 0; elsewhere ``network`` may be uninitialised.
    """

    def __init__(self, network: Decoder, spec: TrainingSpec, processes: Processes) -> None:
        self.network, self.spec, self.processes = network, spec, processes
        self.way, dtype = way_of(spec, network, processes), TORCH_DTYPES[spec.dtype]
        self._device = processes.device.torch_device
        network.to(self._device)
        processes.copy_from_first(parameter.detach() for parameter in network.parameters())
        spread(network, processes, self.way, dtype)
        self.optimizer = ShardedOptimizer(network, spec, dtype, processes)
        self.attend = CausalAttention(spec.seq_len, self._device, dtype)
        self._pass = ThroughAutograd(network, self.attend, spec, self._device)
        self.flops = self.bytes = 0.0
        """Executed by one step in all processes together; known after the first."""

    def learn(
        self, mine: Batch, n_targets: int, *, lr_scale: float, accept: Accept | None = None, count: bool = False
    ) -> StepResult:
        """Learns from a batch of which ``mine`` are this process's rows and ``n_targets`` all predicted tokens.

        ``accept`` is told the same in every process. ``count``: whether to count what is executed.
        """
        if not count:
            return self._run(mine, n_targets, lr_scale, accept)
        with CountBytes() as counted, count_flops() as counter:
            result = self._run(mine, n_targets, lr_scale, accept)
        executed = torch.tensor([counter.get_total_flops(), counted.total], dtype=torch.float64)
        self.flops, self.bytes = self.processes.add_up(executed).tolist()
        return result

    def state(self) -> dict[str, Tensor]:
        """All tensors that a resumed run needs, by name, whatever the number of processes then."""
        return self.optimizer.state()

    def refresh(self) -> None:
        """Makes the working weights follow a loaded state."""
        self.optimizer.refresh()

    def whole(self) -> Decoder | None:
        """The network in one piece on the device, in the working format, in process 0; None elsewhere."""
        network = gathered(self.network, TORCH_DTYPES[self.spec.dtype])
        return network.to(self._device) if network else None

    def _run(self, mine: Batch, n_targets: int, lr_scale: float, accept: Accept | None) -> StepResult:
        n_parts, losses = self.spec.accumulate, []
        for i in range(n_parts):
            sync_gradients(self.network, i == n_parts - 1)
            losses.append(self._pass.part(mine.rows(i, n_parts), n_targets))
        loss = self.processes.add_up(torch.stack(losses).sum())
        judge = None if accept is None else lambda norm: accept(loss.item(), norm.item())
        norm = self.optimizer.step(lr_scale, judge)
        return StepResult(*torch.stack((loss, norm)).tolist())


def check_group(
    n_processes: int, *, batch_size: int, accumulate: int = 1, parallel: str = "auto", compile: bool | str = "auto"
) -> None:
    """Raises RequestError for what several processes cannot do: each needs a sequence in every part of a batch."""
    if batch_size < n_processes * accumulate:
        raise RequestError(
            f"batch_size={batch_size}: fewer sequences than {n_processes} processes x accumulate={accumulate} need; "
            "each must have one"
        )
    if parallel == "none":
        raise RequestError(f"parallel=none: {n_processes} processes were started; take auto, ddp or fsdp")
    if compile is True:
        raise RequestError(f"compile=true: {n_processes} processes were started, which run uncompiled; leave it out")
