"""What each step used, charged to the meter by phase and attributed to the requests in it.

Convention: tokens of ``prefill`` are known tokens whose cache was computed (again, after a preemption),
tokens of ``decode`` are those computed one a time to continue an answer; so an answer's first token is
prefill's, and n generated tokens are n - 1 of decode. A step's time and joules are split between phases,
and a phase's between its requests, by executed FLOPs. Bytes are weights once a step and the cache as read
and written; activations are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from twobills.counts.flops import forward_flops
from twobills.counts.memory import engine_weight_bytes, kv_bytes_per_token
from twobills.meter.meter import Meter
from twobills.serving.scheduler import Batch, Chunk
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.usage import Energy, Job, Origin, Phase, PhaseUsage, Stamp, Usage


class Executed(NamedTuple):
    """Keys multiplied in one layer, summed over tokens, as the attention counted them itself."""

    prefill_attended: float
    decode_attended: float


@dataclass(slots=True)
class _Share:
    """One request's part of one phase so far. Plain numbers: this is added to for every token."""

    tokens: int = 0
    flops: float = 0.0
    bytes: float = 0.0
    chip_s: float = 0.0
    joules: float = 0.0


@dataclass(slots=True)
class _Account:
    prefill: _Share = field(default_factory=_Share)
    decode: _Share = field(default_factory=_Share)

    def of(self, phase: Phase) -> _Share:
        return self.prefill if phase is Phase.PREFILL else self.decode


class Charger:
    """Charges steps to a meter, and keeps an account for every unfinished request."""

    def __init__(self, model: ModelSpec, dtype: DType, meter: Meter) -> None:
        self._meter = meter
        self._flops_per_token = forward_flops(model, n_tokens=1, n_attended=0, n_logits=0)
        self._flops_per_key = forward_flops(model, n_tokens=0, n_attended=1, n_logits=0)
        self._flops_per_logits = forward_flops(model, n_tokens=0, n_attended=0, n_logits=1)
        self._kv_bytes = kv_bytes_per_token(model, dtype)
        self._weight_bytes = engine_weight_bytes(model, dtype)
        self._accounts: dict[str, _Account] = {}

    def charge(self, batch: Batch, executed: Executed) -> None:
        """Charges the time since the last charge, and what the batch executed."""
        decodes, prefills = batch.decodes, batch.prefills
        work: dict[Phase, list[float]] = {}  # FLOPs of each chunk, by phase
        if prefills:
            work[Phase.PREFILL] = self._prefill_flops(prefills, executed.prefill_attended)
        if decodes:
            each = executed.decode_attended / len(decodes)  # padded: the same for all
            work[Phase.DECODE] = [self._flops(1, each, 1)] * len(decodes)
        total = sum(sum(flops) for flops in work.values())
        shares = {phase: sum(flops) / total for phase, flops in work.items()}
        kv = {
            # a prompt's keys and values are read once for all its tokens, an answer's once for its one
            Phase.PREFILL: sum(chunk.end + chunk.n_tokens for chunk in prefills) * self._kv_bytes,
            Phase.DECODE: (executed.decode_attended + len(decodes)) * self._kv_bytes,
        }
        used = {
            phase: PhaseUsage(
                tokens=sum(chunk.n_tokens for chunk in (prefills if phase is Phase.PREFILL else decodes)),
                flops=sum(flops),
                bytes=self._weight_bytes * shares[phase] + kv[phase],
            )
            for phase, flops in work.items()
        }
        before = self._meter.usage().phases
        self._meter.record(shares, used)
        after = self._meter.usage().phases
        for phase, flops in work.items():
            chunks = prefills if phase is Phase.PREFILL else decodes
            self._attribute(phase, chunks, flops, _difference(phase, before, after))

    def rest(self) -> None:
        """Charges the time since the last charge to the meter's resting phase."""
        self._meter.rest()

    def close(self, request_id: str) -> Usage | None:
        """What is attributed to a request that ended; None if it never ran."""
        account = self._accounts.pop(request_id, None)
        if account is None:
            return None
        stamp = self._meter.usage().total.energy.stamp
        phases = {Phase.PREFILL: account.prefill, Phase.DECODE: account.decode}
        return Usage(
            job=Job.INFERENCE,
            origin=Origin.MEASURED,
            phases={phase: _phase_usage(share, stamp) for phase, share in phases.items() if share.tokens},
        )

    def _flops(self, n_tokens: int, n_attended: float, n_logits: int) -> float:
        return self._flops_per_token * n_tokens + self._flops_per_key * n_attended + self._flops_per_logits * n_logits

    def _prefill_flops(self, chunks: tuple[Chunk, ...], attended: float) -> list[float]:
        """FLOPs of each chunk; what attention executed is split by the chunks' rectangles."""
        rectangles = [chunk.n_tokens * chunk.end for chunk in chunks]
        scale = attended / sum(rectangles)
        return [
            self._flops(chunk.n_tokens, area * scale, int(chunk.wants_logits))
            for chunk, area in zip(chunks, rectangles, strict=True)
        ]

    def _attribute(self, phase: Phase, chunks: tuple[Chunk, ...], flops: list[float], used: PhaseUsage) -> None:
        for chunk, own in zip(chunks, flops, strict=True):
            share = self._accounts.setdefault(chunk.request.id, _Account()).of(phase)
            part = own / used.flops
            share.tokens += chunk.n_tokens
            share.flops += own
            share.bytes += used.bytes * part
            share.chip_s += used.chip_s * part
            share.joules += used.energy.total_j * part


def _difference(phase: Phase, before: Mapping[Phase, PhaseUsage], after: Mapping[Phase, PhaseUsage]) -> PhaseUsage:
    return after[phase] + before.get(phase, PhaseUsage()).scaled(-1)


def _phase_usage(share: _Share, stamp: Stamp | None) -> PhaseUsage:
    energy = Energy.of(share.joules, stamp) if stamp else Energy()
    return PhaseUsage(tokens=share.tokens, flops=share.flops, bytes=share.bytes, chip_s=share.chip_s, energy=energy)
