"""Where the time of one serving step goes, operation by operation, and what binds each.

The step is the mean one: running sequences with the prompts that take the places of the finished, all pipeline stages
one after the other, kinds of layers taken together. What neither computes, reads nor sends is the engine's: launching,
scheduling, sampling.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from twobills.counts.serving_step import ServingWork, serving_step
from twobills.counts.sharded_step import Transfer, Work
from twobills.perf.links import transfer_s
from twobills.perf.serving_step import ServingRates, serving_step_s, serving_work_s
from twobills.plan.explain import Bound
from twobills.plan.serving_split import situation_of
from twobills.plan.steady import Instance
from twobills.specs.efficiency import OpKind
from twobills.specs.load import Load
from twobills.specs.model import ModelSpec

ENGINE = "engine"
_SEEN = 1e-9
_KIND_OF_LAYER = re.compile(r" \(\d+\)$")


class ServingPart(NamedTuple):
    """One operation or transfer of a step, all its calls."""

    name: str
    seconds: float
    bound_by: str
    """A ``Bound``'s words, or ``ENGINE``."""

    def to_json(self, step_s: float) -> dict[str, Any]:
        """Plain JSON, with its share of the step."""
        share = self.seconds / step_s
        return {"name": self.name, "step_s": self.seconds, "share_frac": share, "bound_by": self.bound_by}


def explain_serving(
    model: ModelSpec, instance: Instance, rates: ServingRates, load: Load, n_running: float
) -> list[ServingPart]:
    """The parts, the longest first; they sum to the step's seconds."""
    n = max(n_running, float(instance.pp[0]))  # a step that runs has a sequence in each stage's turn
    finished = n_running / load.answer_tokens
    share = min(finished, 1.0)
    read_tokens = load.prompt_tokens * (1 - load.cached_frac) * finished / share
    context = load.prompt_tokens + load.answer_tokens / 2

    def parts(n_prompt: float) -> list[ServingPart]:
        situation = situation_of(instance, n, context, n_prompt, load.prompt_tokens)
        return _parts(serving_step(model, situation), rates)

    mixed = [part._replace(seconds=(1 - share) * part.seconds) for part in parts(0.0)]
    mixed += [part._replace(seconds=share * part.seconds) for part in parts(read_tokens)]
    seen = [part for part in _of_all_kinds(mixed) if part.seconds > _SEEN * sum(p.seconds for p in mixed)]
    return sorted(seen, key=lambda part: -part.seconds)


def _parts(step: ServingWork, rates: ServingRates) -> list[ServingPart]:
    parts = [ServingPart(w.name, float(serving_work_s(w, rates)[0]), _bound(w, rates)) for w in step.work]
    parts += [ServingPart(t.name, float(transfer_s(t, rates)[0]), _link(t, rates)) for t in step.transfers]
    engine = float(serving_step_s(step, rates)[0]) - sum(part.seconds for part in parts)
    return [*parts, ServingPart("launching, scheduling, sampling", max(engine, 0.0), ENGINE)]


def _of_all_kinds(parts: list[ServingPart]) -> list[ServingPart]:
    """Parts of the same name but for the number of their kind of layer, added up; the longest says what binds."""
    found: dict[str, list[ServingPart]] = {}
    for part in parts:
        found.setdefault(_KIND_OF_LAYER.sub("", part.name), []).append(part)
    return [
        ServingPart(name, sum(p.seconds for p in same), max(same, key=lambda p: p.seconds).bound_by)
        for name, same in found.items()
    ]


def _bound(work: Work, rates: ServingRates) -> str:
    products = work.kind is OpKind.MATMUL
    flops_per_s = rates.product_flops_per_s if products else rates.attention_flops_per_s
    computing = float((work.flops / flops_per_s)[0])
    whole = float((serving_work_s(work, rates) / work.calls)[0])
    return Bound.COMPUTE.value if computing > 0.5 * whole else Bound.MEMORY.value


def _link(transfer: Transfer, rates: ServingRates) -> str:
    reach = float((transfer.stride * transfer.group)[0])
    return Bound.FAST_LINKS.value if reach <= float(rates.n_fast) else Bound.NETWORK.value
