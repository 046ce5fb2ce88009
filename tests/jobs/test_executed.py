"""Counting somebody else's steps does not change what they do."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from twobills.jobs.counting import Counting, Executed
from twobills.jobs.executed import CountedPasses
from twobills.jobs.nn.profile import count_flops


class Heard:
    """Sums what is reported."""

    def __init__(self) -> None:
        self.tokens = self.flops = 0.0

    def __call__(self, tokens: float, executed: Executed) -> None:
        self.tokens += tokens
        self.flops += executed.flops


class Foreign(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode of the program's own; hears every operator."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        self.n += 1
        return func(*args, **(kwargs or {}))


def backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]


def test_fused_attention_is_counted_as_the_profiler_counts_it() -> None:
    def run() -> None:
        q, k = (torch.randn(2, 4, 8, 16, requires_grad=True) for _ in range(2))
        backward(nn.functional.scaled_dot_product_attention(q, k, k, is_causal=True).sum())

    with count_flops() as profiler:
        run()
    counting = Counting()
    run()
    executed = counting.end()
    assert executed is not None
    assert executed.flops == profiler.get_total_flops() > 0


def test_operators_that_inference_mode_keeps_whole_are_taken_apart() -> None:
    x, weight = torch.randn(3, 5), torch.randn(7, 5)
    counting = Counting()
    with torch.inference_mode():
        nn.functional.linear(x, weight)
    executed = counting.end()
    assert executed is not None
    assert executed.flops == 2 * 3 * 5 * 7


def test_a_mode_of_the_programs_own_is_neither_lost_nor_popped() -> None:
    heard, network = Heard(), nn.Linear(4, 4)
    counted = CountedPasses(network, heard)
    with Foreign() as foreign:  # type: ignore[no-untyped-call]
        backward(network(torch.ones(2, 4)).sum())
    counted.boundary()
    assert foreign.n > 0
    assert heard.flops == 0  # what runs under it is not counted
    network(torch.ones(2, 4))  # counting
    with Foreign() as inner:  # type: ignore[no-untyped-call]
        counted.boundary()  # cannot end below the other mode
        torch.ones(2) + 1
    assert inner.n > 0
    assert heard.flops == 0
    counted.boundary()
    assert heard.flops == 2 * 2 * 4 * 4
    counted.close()
    assert not network._forward_hooks


def test_two_networks_of_one_program_do_not_count_each_other_twice() -> None:
    heard, first, second = Heard(), nn.Linear(4, 4), nn.Linear(4, 8)
    counted = CountedPasses(first, heard)
    with torch.no_grad():
        for _ in range(3):
            first(torch.ones(2, 4))
            second(torch.ones(2, 4))
    counted.close()
    assert heard.flops == 3 * 2 * 2 * 4 * 4  # the second network is not watched


def test_a_compiled_network_stays_compiled() -> None:
    calls = []

    def backend(graph: Any, _: Any) -> Any:
        calls.append(graph)
        return graph.forward

    network: Any = torch.compile(nn.Linear(4, 4), backend=backend)
    heard = Heard()
    counted = CountedPasses(network, heard)
    for _ in range(3):
        backward(network(torch.ones(2, 4)).sum())
        counted.boundary()
    counted.close()
    assert len(calls) == 1  # compiled after the count, once
    assert heard.flops == 3 * 2 * 2 * 2 * 4 * 4


def test_a_network_compiled_around_the_hook_is_not_heard_and_stays_compiled() -> None:
    calls = []

    def backend(graph: Any, _: Any) -> Any:
        calls.append(graph)
        return graph.forward

    inner, heard = nn.Linear(4, 4), Heard()
    counted = CountedPasses(inner, heard)
    network = torch.compile(inner, backend=backend)
    for _ in range(3):
        network(torch.ones(2, 4))
        counted.boundary()
    assert counted.n_heard == 0
    assert len(calls) == 1
    counted.close()
