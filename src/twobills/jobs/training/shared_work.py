"""Muon's orthogonalisation shared out over processes: each matrix is made orthogonal by one of them.

Newton-Schulz needs a matrix whole. Where its rows are spread over the processes, they go to its owner in one exchange
and come back in another, so that each process sends and receives about two slices' worth of every matrix however many
there are. Where every process has all matrices, each makes its own orthogonal and all are gathered. What travels is
in the working format, in which the products are made anyway. The work is dealt out by its cost, largest first.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from twobills.jobs.training.optimizer import orthogonalise

_Shape = Sequence[int]


class SharedWork:
    """Who owns which of the matrices, and how they travel."""

    def __init__(self, matrices: Sequence[DTensor], dtype: torch.dtype) -> None:
        mesh = matrices[0].device_mesh
        self._spread = mesh["shards"].size() > 1
        self._group = mesh.get_group("shards" if self._spread else "copies")
        self._rank, self._n = dist.get_rank(self._group), dist.get_world_size(self._group)
        self._dtype, self._shapes = dtype, [matrix.shape for matrix in matrices]
        self._owned = dealt_out(self._shapes, self._n)

    def orthogonalised(self, updates: list[Tensor]) -> list[Tensor]:
        """For this process's rows of all matrices, its rows of their orthogonal ones, in the working format."""
        found = list(updates)
        parts = self._over_slices(updates) if self._spread else self._over_copies(updates)
        for owned, rows in zip(self._owned, parts, strict=True):
            for i, slice_ in zip(owned, rows, strict=True):
                found[i] = slice_
        return found

    def _over_copies(self, updates: list[Tensor]) -> list[list[Tensor]]:
        """By owner, the matrices that it made orthogonal; here everyone has all of each."""
        mine = _packed([_orthogonal([updates[i].to(self._dtype) for i in self._owned[self._rank]])], updates[0])[0]
        sizes = [sum(updates[i].numel() for i in owned) for owned in self._owned]
        padded = torch.nn.functional.pad(mine.to(self._dtype), (0, max(sizes) - len(mine)))
        gathered = [torch.empty_like(padded) for _ in range(self._n)]
        dist.all_gather(gathered, padded, group=self._group)
        shapes = [[self._shapes[i] for i in owned] for owned in self._owned]
        return [_unpacked(part, of) for part, of in zip(gathered, shapes, strict=True)]

    def _over_slices(self, updates: list[Tensor]) -> list[list[Tensor]]:
        """By owner, this process's rows of the matrices that it made orthogonal."""
        mine = [self._shapes[i] for i in self._owned[self._rank]]
        heights = [slice_heights(shape[0], self._n) for shape in mine]
        here = [[updates[i].to(self._dtype) for i in owned] for owned in self._owned]
        there = [[(h[rank], shape[1]) for h, shape in zip(heights, mine, strict=True)] for rank in range(self._n)]
        arrived = self._exchange(here, there)
        wholes = [torch.cat([rows[k] for rows in arrived]) for k in range(len(mine))]
        done = [torch.split(whole, h) for whole, h in zip(_orthogonal(wholes), heights, strict=True)]
        back = [[rows[rank] for rows in done] for rank in range(self._n)]
        return self._exchange(back, [[tuple(rows.shape) for rows in to_one] for to_one in here])

    def _exchange(self, sent: list[list[Tensor]], shapes: Sequence[Sequence[_Shape]]) -> list[list[Tensor]]:
        """Sends every process its list, and gets a list of the given shapes from each."""
        like = torch.empty(0, dtype=self._dtype, device=next(x.device for xs in sent for x in xs))
        packed = _packed(sent, like)
        sizes = [sum(shape[0] * shape[1] for shape in of) for of in shapes]
        arrived = like.new_empty(sum(sizes))
        dist.all_to_all_single(arrived, torch.cat(packed), sizes, [len(part) for part in packed], group=self._group)
        return [_unpacked(part, of) for part, of in zip(torch.split(arrived, sizes), shapes, strict=True)]


def dealt_out(shapes: Sequence[_Shape], n: int) -> list[list[int]]:
    """For each of ``n`` processes the indices of its matrices, so that the largest load of products is small."""
    loads, owned = [0.0] * n, [list[int]() for _ in range(n)]
    for i in sorted(range(len(shapes)), key=lambda i: -cost_of(shapes[i])):
        lightest = loads.index(min(loads))
        loads[lightest] += cost_of(shapes[i])
        owned[lightest].append(i)
    return owned


def cost_of(shape: _Shape) -> float:
    """Proportional to the products of one Newton-Schulz step: the Gram matrix, its square, and it times the matrix."""
    short, long = sorted(shape)
    return short * short * (2.0 * long + short)


def slice_heights(n_rows: int, n: int) -> list[int]:
    """Rows of each process's slice, as FSDP2 cuts them: all as high as the first, but for the last ones."""
    height = -(-n_rows // n)
    return [max(0, min(height, n_rows - rank * height)) for rank in range(n)]


def _orthogonal(matrices: list[Tensor]) -> list[Tensor]:
    """Each made orthogonal, those of one shape or its transpose together."""
    stacks: dict[tuple[int, ...], list[int]] = {}
    for i, matrix in enumerate(matrices):
        stacks.setdefault(tuple(sorted(matrix.shape)), []).append(i)
    done = list(matrices)
    for indices in stacks.values():
        wide = torch.stack([_laid_wide(matrices[i]) for i in indices])
        for i, matrix in zip(indices, orthogonalise(wide), strict=True):
            done[i] = matrix if matrix.shape == matrices[i].shape else matrix.mT
    return done


def _laid_wide(matrix: Tensor) -> Tensor:
    return matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT


def _packed(lists: list[list[Tensor]], like: Tensor) -> list[Tensor]:
    """Each list as one flat tensor; an empty one as none."""
    return [torch.cat([x.flatten() for x in xs]) if xs else like.new_empty(0) for xs in lists]


def _unpacked(flat: Tensor, shapes: Sequence[_Shape]) -> list[Tensor]:
    """The tensors of these shapes at the beginning of a flat one."""
    sizes = [shape[0] * shape[1] for shape in shapes]
    return [part.view(*shape) for part, shape in zip(torch.split(flat[: sum(sizes)], sizes), shapes, strict=True)]
