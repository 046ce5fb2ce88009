"""The engine: schedule, run, record, again and again; what it ran is charged to the meter.

One step computes one flat batch: the next token of every running answer and as much of the waiting prompts
as fits. It decides nothing about order (``serving.scheduler`` does) and knows no text. Eager PyTorch; not
thread-safe, one thread drives it. With weights of at most a few million parameters on a CPU, run that
thread with one intra-op thread: a step is some hundred small operations, and waking a second thread for
each costs more than it brings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import torch

from twobills.errors import SpecError
from twobills.jobs.device import TORCH_DTYPES
from twobills.jobs.inference.attend import Flattener, PagedAttend
from twobills.jobs.inference.cache import PagedCache
from twobills.jobs.inference.charge import Charger, Executed
from twobills.jobs.inference.sampler import sample
from twobills.jobs.inference.weights import LoadedModel
from twobills.meter.clock import Clock, monotonic
from twobills.meter.meter import Meter
from twobills.serving.request import FinishReason, Request, SamplingParams
from twobills.serving.scheduler import Batch, Scheduler
from twobills.specs.serving import ServingSpec
from twobills.usage import Usage

_CPU = torch.device("cpu")


class Output(NamedTuple):
    """One token that a step generated."""

    request: Request
    token_id: int
    finished: bool
    usage: Usage | None
    """What is attributed to the whole request, once it finished and if there is a meter."""


class Engine:
    """Serves one model within a spec's limits. Raises SpecError for limits the model cannot keep."""

    def __init__(
        self,
        loaded: LoadedModel,
        spec: ServingSpec,
        meter: Meter | None = None,
        *,
        clock: Clock = monotonic,
        device: torch.device = _CPU,
        seed: int = 0,
    ) -> None:
        model, dtype = loaded.spec, TORCH_DTYPES.get(spec.dtype)
        if dtype is None:
            raise SpecError(f"dtype={spec.dtype}: the engine serves {', '.join(TORCH_DTYPES)}")
        if spec.max_context_len > model.max_seq_len:
            raise SpecError(f"max_context_len={spec.max_context_len}: the model's positions end at {model.max_seq_len}")
        loaded.convert(dtype, device)
        self.loaded, self.spec, self.clock = loaded, spec, clock
        self.scheduler = Scheduler(spec, eos_token_ids=loaded.eos_token_ids)
        self.n_generated = 0
        """Tokens sampled so far."""
        self.n_prompt = 0
        """Prompt tokens of requests that got their first token."""
        self._cache = PagedCache(model, spec, device, dtype)
        self._flattener = Flattener(
            max_batch_size=spec.max_batch_size,
            max_context_len=spec.max_context_len,
            block_tokens=spec.kv_block_tokens,
            kv_heads=model.n_kv_heads,
            group=model.n_heads // model.n_kv_heads,
            device=device,
            dtype=dtype,
        )
        self._charger = Charger(model, spec.dtype, meter) if meter else None
        self._seed = seed
        self._ids = count()

    @property
    def has_work(self) -> bool:
        """Whether any request is unfinished."""
        return self.scheduler.has_work

    def add(self, request: Request) -> None:
        """Queues a request. Raises SpecError if it can never fit or holds a token the model does not have."""
        largest = max(request.prompt_token_ids)
        if min(request.prompt_token_ids) < 0 or largest >= self.loaded.spec.vocab_size:
            raise SpecError(
                f"request {request.id}: prompt holds a token outside 0 to {self.loaded.spec.vocab_size - 1}"
            )
        self.scheduler.add(request)

    def abort(self, request_id: str, reason: FinishReason = FinishReason.ABORT) -> Usage | None:
        """Ends a request early; what is attributed to it, None if it never ran or is not there."""
        self.scheduler.abort(request_id, self.clock(), reason)
        return self._charger.close(request_id) if self._charger else None

    def rest(self) -> None:
        """Charges the time since the last step to the meter's resting phase: call it around waiting."""
        if self._charger:
            self._charger.rest()

    def step(self) -> list[Output]:
        """Computes one batch and returns the tokens it generated; nothing to do returns nothing."""
        batch = self.scheduler.schedule(self.clock())
        if not batch:
            return []
        sampled = self._run(batch)
        self.scheduler.record(batch, sampled, self.clock())
        return [self._output(chunk.request) for chunk in batch.chunks if chunk.wants_logits]

    def generate(self, prompt_token_ids: Sequence[int], params: SamplingParams) -> Iterator[int]:
        """Tokens of one answer as they come; other requests in the engine go on beside it."""
        request = Request(
            id=f"generate-{next(self._ids)}",
            prompt_token_ids=tuple(prompt_token_ids),
            params=params,
            arrival_s=self.clock(),
        )
        self.add(request)
        try:
            while request.finish_reason is None:
                yield from (output.token_id for output in self.step() if output.request is request)
        finally:
            self.abort(request.id)

    @torch.inference_mode()
    def _run(self, batch: Batch) -> dict[str, int]:
        """The token sampled for each chunk that wants one, by request id."""
        flat = self._flattener.flatten(batch)
        attend = PagedAttend(self._cache, flat)
        decoder = self.loaded.decoder
        hidden_nM = decoder.hidden(flat.token_ids, flat.positions, attend)
        requests = [chunk.request for chunk in batch.chunks if chunk.wants_logits]
        sampled: dict[str, int] = {}
        if requests:
            rows = _sampled_rows(batch)
            if len(rows) < len(hidden_nM):
                hidden_nM = hidden_nM[rows]
            tokens = sample(decoder.logits(hidden_nM), requests, engine_seed=self._seed)
            sampled = {request.id: token for request, token in zip(requests, tokens, strict=True)}
        if self._charger:
            per_key = self.loaded.spec.n_layers * self.loaded.spec.n_heads
            executed = Executed(attend.executed_prefill / per_key, attend.executed_decode / per_key)
            self._charger.charge(batch, executed)
        return sampled

    def _output(self, request: Request) -> Output:
        self.n_generated += 1
        if len(request.output_token_ids) == 1:
            self.n_prompt += len(request.prompt_token_ids)
        finished = request.finish_reason is not None
        usage = self._charger.close(request.id) if finished and self._charger else None
        return Output(request, request.output_token_ids[-1], finished, usage)


def _sampled_rows(batch: Batch) -> list[int]:
    """Rows of the flat batch whose logits are wanted."""
    rows, end = [], 0
    for chunk in batch.chunks:
        end += chunk.n_tokens
        if chunk.wants_logits:
            rows.append(end - 1)
    return rows
