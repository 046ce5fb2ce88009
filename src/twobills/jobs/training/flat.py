"""A network's weights laid next to each other in one buffer, their gradients and fp32 masters in two more.

The layers' matrices come first, in the order in which the network names them, then everything else. So q, k and v of
a layer, or gate and up, stand one below the other and are one matrix to whoever multiplies them, and an optimiser
makes one call for all. The names and shapes that a state dict shows stay as they are: parameters are views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Span(NamedTuple):
    """A stretch of the flat buffers."""

    start: int
    end: int

    def of(self, flat: Tensor) -> Tensor:
        """This stretch of a flat buffer, as a view."""
        return flat[self.start : self.end]


class _Place(NamedTuple):
    name: str
    span: Span
    shape: torch.Size


class FlatWeights:
    """Takes over a network's parameters, which become views of ``work``, their gradients views of ``grad``."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        parameters = dict(network.named_parameters())
        matrices = [name for name, p in parameters.items() if is_projection(name, p)]
        others = [name for name in parameters if name not in set(matrices)]
        self._places: list[_Place] = []
        start = 0
        for name in (*matrices, *others):
            end = start + parameters[name].numel()
            self._places.append(_Place(name, Span(start, end), parameters[name].shape))
            start = end
        self.matrices = Span(0, self._places[len(matrices)].span.start)
        self.others = Span(self.matrices.end, start)
        self.master = torch.cat([parameters[p.name].detach().float().flatten() for p in self._places])
        self.work = self.master if dtype == torch.float32 else self.master.to(dtype)
        self.grad = torch.zeros_like(self.work)
        for (name, work), (_, grad) in zip(self.views(self.work), self.views(self.grad), strict=True):
            parameters[name].data, parameters[name].grad = work, grad

    def views(self, flat: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Every parameter's name and its place in a buffer of the whole length."""
        return ((p.name, p.span.of(flat).view(p.shape)) for p in self._places)

    def joined(self, flat: Tensor, names: Sequence[str]) -> Tensor:
        """Matrices of equal width that were laid below one another, as one matrix."""
        places = {p.name: p for p in self._places}
        spans, columns = [places[name].span for name in names], places[names[0]].shape[1]
        assert all(a.end == b.start for a, b in pairwise(spans)), names
        return flat[spans[0].start : spans[-1].end].view(-1, columns)

    def views_in(self, span: Span, part: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Names and places of the parameters in ``span``, in a buffer of that span's length."""
        for place in self._places:
            if span.start <= place.span.start < span.end:
                yield (
                    place.name,
                    part[place.span.start - span.start : place.span.end - span.start].view(place.shape),
                )


def is_projection(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is one of the layers' matrices, which Muon updates."""
    return parameter.dim() == 2 and ".layers." in name
