"""One network on many processes: its weights sharded (FSDP2) or replicated, and the optimiser over either.

Sharded, every process keeps a slice of the rows of each fp32 master and moment, and a layer's weights are gathered
when it runs. Replicated is the same code on a mesh whose shards are one wide: the gradients are summed and every
process keeps everything. Gradients are summed in fp32, never averaged: the loss is divided by the targets of the
global batch already, so the result does not depend on how many processes there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from twobills.counts.training_memory import training_state_bytes
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.flat import is_projection
from twobills.jobs.training.optimizer import BETAS, CLIP_NORM, EPSILON, MOMENTUM
from twobills.jobs.training.processes import Processes
from twobills.jobs.training.shared_work import SharedWork
from twobills.specs.training import TrainingSpec

REPLICATED_MEMORY_FRAC = 0.5
"""``auto`` replicates weights and optimiser that take less than this part of a process's memory; else it shards."""


def way_of(spec: TrainingSpec, network: Decoder, processes: Processes) -> str:
    """How several processes share this network: what the spec says, or what fits."""
    if spec.parallel != "auto":
        return spec.parallel
    fits = (
        training_state_bytes(network.spec, spec.dtype, spec.optimizer)
        < REPLICATED_MEMORY_FRAC * processes.device.memory_bytes
    )
    return "ddp" if fits else "fsdp"


def spread(network: Decoder, processes: Processes, way: str, dtype: torch.dtype) -> None:
    """Turns the network's parameters into fp32 masters spread over the processes, cast to ``dtype`` where they work.

    Every process must have the same weights. Afterwards ``network.hidden`` gathers what it needs, and the
    head stays gathered until the backward pass is over.
    """
    mesh = _mesh(processes, way)
    low = None if dtype == torch.float32 else dtype
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=torch.float32, cast_forward_inputs=False)
    network.float()
    for layer in network.model.layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy, reshard_after_forward=way == "fsdp")
    fully_shard(network, mesh=mesh, mp_policy=policy, reshard_after_forward=False)
    register_fsdp_forward_method(network, "hidden")
    for part in _parts(network):
        part.set_gradient_divide_factor(1.0)  # with the next line: a plain sum, which gloo can do as well as NCCL
        part.set_force_sum_reduction_for_comms(True)


def _mesh(processes: Processes, way: str) -> DeviceMesh:
    kind = processes.device.torch_device.type
    if way == "fsdp":
        return init_device_mesh(kind, (processes.n,), mesh_dim_names=("shards",))
    return init_device_mesh(kind, (processes.n, 1), mesh_dim_names=("copies", "shards"))


def _parts(network: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in network.modules() if isinstance(module, FSDPModule))


def sync_gradients(network: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass sums gradients over the processes, or only keeps them (accumulation)."""
    for part in _parts(network):
        part.set_requires_gradient_sync(wanted, recurse=False)


@torch.no_grad()
def gathered(network: Decoder, dtype: torch.dtype) -> Decoder | None:
    """The network whole in the working format, on the CPU, in process 0; None elsewhere. All must ask."""
    first = dist.get_rank() == 0
    whole = {}
    for name, parameter in network.named_parameters():
        assert isinstance(parameter, DTensor)
        weights = parameter.to(dtype).full_tensor()  # type: ignore[attr-defined]
        if first:
            whole[name] = weights.cpu()
    if not first:
        return None
    copy = Decoder(network.spec).to(dtype)
    for name, parameter in copy.named_parameters():
        parameter.copy_(whole.pop(name))
    return copy


class ShardedOptimizer:
    """The same rules as ``Optimizer``, on slices; the same names of state, so either reads the other's checkpoint."""

    def __init__(self, network: nn.Module, spec: TrainingSpec, dtype: torch.dtype, processes: Processes) -> None:
        self._network = network
        device = processes.device.torch_device
        self._n_updates = torch.zeros((), device=device)
        self._matrices: list[_Slice] = []
        self._adam: list[tuple[_AdamSlice, float]] = []
        for name, parameter in network.named_parameters():
            assert isinstance(parameter, DTensor)
            projection = is_projection(name, parameter)
            if projection and spec.optimizer == "muon":
                self._matrices.append(_Slice(name, parameter, _zeros_like(parameter)))
            else:
                moments = _AdamSlice(name, parameter, _zeros_like(parameter), _zeros_like(parameter))
                self._adam.append((moments, spec.weight_decay if projection else 0.0))
        self._lr, self._muon_lr, self._decay = spec.lr, spec.muon_lr, spec.weight_decay
        self._processes = processes
        self._share = SharedWork([m.parameter for m in self._matrices], dtype) if self._matrices else None

    @torch.no_grad()
    def step(self, lr_scale: float, accept: Callable[[Tensor], bool] | None = None) -> Tensor:
        """As ``Optimizer.step``: updates unless ``accept`` refuses the norm of all gradients, which it returns."""
        groups = ([of.parameter for of, _ in self._adam], [of.parameter for of in self._matrices])
        squares = torch.stack([_squares(group) for group in groups if group])
        if self._is_sharded():
            self._processes.add_up(squares)
        norm = squares.sum().sqrt()
        if accept is None or accept(norm):
            self._n_updates += 1
            self._update_adam((CLIP_NORM / (squares[0].sqrt() + 1e-6)).clamp(max=1.0), lr_scale)
            self._update_matrices(lr_scale)
        for parameter in self._network.parameters():
            parameter.grad = None
        return norm

    def state(self) -> dict[str, Tensor]:
        """All that a resumed run needs, by name: live tensors, so that loading is copying into them."""
        state: dict[str, Tensor] = {"n_updates": self._n_updates}
        for name, parameter in self._network.named_parameters():
            state[f"master.{name}"] = parameter.detach()
        for adam, _ in self._adam:
            state |= {f"exp_avg.{adam.name}": adam.exp_avg, f"exp_avg_sq.{adam.name}": adam.exp_avg_sq}
        return state | {f"momentum.{matrix.name}": matrix.momentum for matrix in self._matrices}

    def refresh(self) -> None:
        """Lets go of weights that were gathered before the state was loaded."""
        for part in _parts(self._network):
            part.reshard()

    def _is_sharded(self) -> bool:
        parameter = next(self._network.parameters())
        assert isinstance(parameter, DTensor)
        return parameter.device_mesh["shards"].size() > 1

    def _update_adam(self, clip: Tensor, lr_scale: float) -> None:
        for decay in sorted({decay for _, decay in self._adam}):
            slices = [of for of, its in self._adam if its == decay and _local(of.parameter).numel()]
            if not slices:
                continue
            torch._fused_adamw_(
                [_local(of.parameter) for of in slices],
                [_local_grad(of.parameter) * clip for of in slices],
                [_local(of.exp_avg) for of in slices],
                [_local(of.exp_avg_sq) for of in slices],
                [],
                [self._n_updates] * len(slices),
                lr=self._lr * lr_scale,
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
            )

    def _update_matrices(self, lr_scale: float) -> None:
        if self._share is None:
            return
        updates = []
        for matrix in self._matrices:
            grad, momentum = _local_grad(matrix.parameter), _local(matrix.momentum)
            momentum.lerp_(grad, 1 - MOMENTUM)
            updates.append(grad.lerp(momentum, MOMENTUM))
        keep = 1 - self._decay * self._muon_lr * lr_scale
        for matrix, update in zip(self._matrices, self._share.orthogonalised(updates), strict=True):
            rows, columns = matrix.parameter.shape
            scale = max(1.0, rows / columns) ** 0.5
            _local(matrix.parameter).mul_(keep).add_(update, alpha=-self._muon_lr * lr_scale * scale)


class _Slice(NamedTuple):
    name: str
    parameter: DTensor
    momentum: DTensor


class _AdamSlice(NamedTuple):
    name: str
    parameter: DTensor
    exp_avg: DTensor
    exp_avg_sq: DTensor


def _local(tensor: DTensor) -> Tensor:
    """This process's part, the same storage."""
    return tensor.to_local().detach()


def _local_grad(parameter: DTensor) -> Tensor:
    grad = parameter.grad
    assert isinstance(grad, DTensor)
    return _local(grad)


def _zeros_like(parameter: DTensor) -> DTensor:
    zeros = torch.zeros_like(parameter.detach())
    assert isinstance(zeros, DTensor)
    return zeros


def _squares(parameters: list[DTensor]) -> Tensor:
    """The sum of the squares of the gradients' local parts."""
    return torch.stack([_local_grad(parameter).square().sum() for parameter in parameters]).sum()
