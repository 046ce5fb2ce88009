"""A batch forward and backward: by hand on a CPU, through autograd on a GPU; gradients are added to the flat ones.

Both cut the batch into parts. By hand a part is some thousand tokens, whose activations stay near the processor;
through autograd it is what ``accumulate`` says. Either may be compiled.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from twobills.counts.memory import batch_parts
from twobills.jobs.data.batch import Batch
from twobills.jobs.native.layer import NativeLayer
from twobills.jobs.nn.attention import CausalAttention
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.nn.loss import chunked_cross_entropy
from twobills.jobs.nn.mixing import Mixing, forbid, make_mixing
from twobills.jobs.training.flat import FlatWeights
from twobills.jobs.training.hand_pass import HandPass
from twobills.specs.training import TrainingSpec


class Pass(Protocol):
    """Runs one global batch."""

    def __call__(self, batch: Batch, n_targets: int) -> Tensor:
        """The loss, summed over the batch's targets and divided by ``n_targets``."""
        ...

    def compile(self) -> None:
        """From now on by compiled code; it is compiled at the next call."""
        ...


class ByHand:
    """On a CPU, part by part: ``by_hand``, or kernels of our own (``jobs.native``), which nothing compiles further."""

    def __init__(
        self, network: Decoder, flat: FlatWeights, spec: TrainingSpec, n_blocks: int, native: NativeLayer | None = None
    ) -> None:
        self._model, self._spec, self._n_blocks = network.spec, spec, n_blocks
        self._dtype = flat.work.dtype
        self._hands = HandPass(network.spec, flat)
        if native is not None:
            self._hands.forward, self._hands.backward = native.forward, native.backward
        self._mixings: dict[int, Mixing] = {}

    @torch.no_grad()
    def __call__(self, batch: Batch, n_targets: int) -> Tensor:
        n_parts = batch_parts(len(batch.inputs), self._spec.seq_len, self._spec.accumulate)
        parts = (batch.rows(i, n_parts) for i in range(n_parts))
        return torch.stack([self._hands(part, self._mixing(part), n_targets) for part in parts]).sum()

    def compile(self) -> None:
        """Compiles one layer's two passes, which serve all layers."""
        self._hands.forward = torch.compile(self._hands.forward, fullgraph=True, dynamic=False)
        self._hands.backward = torch.compile(self._hands.backward, fullgraph=True, dynamic=False)

    def _mixing(self, part: Batch) -> Mixing:
        n_rows = len(part.inputs)
        if n_rows not in self._mixings:
            self._mixings[n_rows] = make_mixing(
                self._model, n_rows=n_rows, seq_len=self._spec.seq_len, n_blocks=self._n_blocks, dtype=self._dtype
            )
        return self._mixings[n_rows].within(forbid(part.documents, self._dtype))


class ThroughAutograd:
    """On any device: the network's own modules, PyTorch's attention, the loss in chunks."""

    def __init__(self, network: Decoder, attend: CausalAttention, spec: TrainingSpec, device: torch.device) -> None:
        self._network, self._attend, self._spec, self._device = network, attend, spec, device
        self._positions = torch.arange(spec.seq_len, device=device)
        self._hidden = network.hidden

    def __call__(self, batch: Batch, n_targets: int) -> Tensor:
        n = self._spec.accumulate
        return torch.stack([self.part(batch.rows(i, n), n_targets) for i in range(n)]).sum()

    def compile(self) -> None:
        """Compiles all up to the head."""
        self._hidden = torch.compile(self._network.hidden, dynamic=False)

    def part(self, part: Batch, n_targets: int) -> Tensor:
        """A part's share of the loss; its gradients are added."""
        inputs, targets = (x.to(self._device, non_blocking=True) for x in (part.inputs, part.targets))
        documents = None if part.documents is None else part.documents.to(self._device, non_blocking=True)
        hidden = self._hidden(inputs, self._positions, self._attend.within(documents))
        loss = chunked_cross_entropy(hidden.flatten(0, 1), self._network.lm_head.weight, targets.flatten(), n_targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()
