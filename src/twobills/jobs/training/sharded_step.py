"""One training step by many processes: ``TrainingStep`` for a network that is spread over them.

Each process runs its rows of the global batch; the loss is divided by the targets of the whole, and its parts and the
gradients are summed. So loss, norm and weights are those of one process, but for the order of fp32 sums.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from twobills.errors import RequestError
from twobills.jobs.data.batch import IGNORED, Batch
from twobills.jobs.device import TORCH_DTYPES
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.profile import CountBytes, count_flops
from twobills.jobs.training.processes import Processes
from twobills.jobs.training.sharded import ShardedOptimizer, spread, sync_gradients, way_of
from twobills.jobs.training.step import Accept, StepResult
from twobills.specs.training import TrainingSpec


class ShardedStep:
    """A network, its optimiser and its process group, ready to learn. All processes make it and call it alike."""

    def __init__(self, network: Decoder, spec: TrainingSpec, processes: Processes) -> None:
        if spec.batch_size < processes.n * spec.accumulate:
            raise RequestError(
                f"batch_size={spec.batch_size}: fewer sequences than {processes.n} processes x "
                f"accumulate={spec.accumulate} need; each must have one"
            )
        self.network, self.spec, self.processes = network, spec, processes
        self.way, dtype = way_of(spec, network, processes), TORCH_DTYPES[spec.dtype]
        self._device = processes.device.torch_device
        network.to(self._device)
        spread(network, processes, self.way, dtype)
        self.optimizer = ShardedOptimizer(network, spec, dtype, processes)
        self.attend = CausalAttention(spec.seq_len, self._device, dtype)
        self._positions = torch.arange(spec.seq_len, device=self._device)
        self.flops = self.bytes = 0.0
        """Executed by one step in all processes together; known after the first."""

    def __call__(self, batch: Batch, *, lr_scale: float, accept: Accept | None = None) -> StepResult:
        """As ``TrainingStep``; ``batch`` is the global one, and ``accept`` is told the same in every process."""
        if self.flops:
            return self._run(batch, lr_scale, accept)
        with CountBytes() as counted, count_flops() as counter:
            result = self._run(batch, lr_scale, accept)
        executed = torch.tensor([counter.get_total_flops(), counted.total], dtype=torch.float64)
        self.flops, self.bytes = self.processes.add_up(executed).tolist()
        return result

    def state(self) -> dict[str, Tensor]:
        """All tensors that a resumed run needs, by name, whatever the number of processes then."""
        return self.optimizer.state()

    def refresh(self) -> None:
        """Makes the working weights follow a loaded state."""
        self.optimizer.refresh()

    def _run(self, batch: Batch, lr_scale: float, accept: Accept | None) -> StepResult:
        n_targets, n_parts = batch.n_targets, self.spec.accumulate
        mine = batch.rows(self.processes.rank, self.processes.n)
        losses = []
        for i in range(n_parts):
            sync_gradients(self.network, i == n_parts - 1)
            losses.append(self._forward_backward(mine.rows(i, n_parts), n_targets))
        loss = self.processes.add_up(torch.stack(losses).sum())
        judge = None if accept is None else lambda norm: accept(loss.item(), norm.item())
        norm = self.optimizer.step(lr_scale, judge)
        return StepResult(*torch.stack((loss, norm)).tolist())

    def _forward_backward(self, part: Batch, n_targets: int) -> Tensor:
        hidden = self.network.hidden(part.inputs.to(self._device), self._positions, self.attend)
        logits, targets = self.network.logits(hidden).flatten(0, 1), part.targets.to(self._device).flatten()
        loss = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum") / n_targets
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
