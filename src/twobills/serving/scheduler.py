"""What goes into the next batch: the one scheduler, for the engine and for the simulator.

Continuous batching. Every running answer gets its next token first; what is left of the step's token budget
goes to prompts, first come first served, in chunks where they do not fit (chunked prefill, Agrawal et al.
2023, SARATHI). When the KV cache runs out, the newest request gives its blocks back and later computes its
tokens again. A request is admitted only when its whole prompt has room, and never overtakes. No clock, no
randomness: the same trace makes the same decisions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from twobills.errors import SpecError
from twobills.serving.blocks import BlockPool
from twobills.serving.load import StepLoad, prefill_attended
from twobills.serving.request import FinishReason, Request, Status
from twobills.specs.serving import ServingSpec
from twobills.usage import Phase


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive known tokens of one request, to be computed in one step."""

    request: Request
    start: int
    n_tokens: int
    phase: Phase
    wants_logits: bool
    """Whether its last token's logits are sampled from."""

    @property
    def end(self) -> int:
        """Context length after the chunk, tokens."""
        return self.start + self.n_tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: decodes first, in order of admission, then prompts."""

    chunks: tuple[Chunk, ...]

    def __bool__(self) -> bool:
        return bool(self.chunks)

    @property
    def decodes(self) -> tuple[Chunk, ...]:
        """The chunks of one token that continue an answer."""
        return tuple(chunk for chunk in self.chunks if chunk.phase is Phase.DECODE)

    @property
    def prefills(self) -> tuple[Chunk, ...]:
        """The chunks of prompts."""
        return tuple(chunk for chunk in self.chunks if chunk.phase is Phase.PREFILL)

    @property
    def load(self) -> StepLoad:
        """The step's work in numbers."""
        decodes, prefills = self.decodes, self.prefills
        return StepLoad(
            n_prefill_tokens=sum(chunk.n_tokens for chunk in prefills),
            n_decode_tokens=len(decodes),
            n_prefill_attended=sum(prefill_attended(chunk.start, chunk.n_tokens) for chunk in prefills),
            n_decode_attended=sum(chunk.end for chunk in decodes),
            n_logits=sum(chunk.wants_logits for chunk in self.chunks),
        )

    def executed_load(self, block_tokens: int) -> StepLoad:
        """The step as our engine multiplies it: whole blocks, masked halves too, decodes as the longest."""

        def keys(context_len: int) -> int:
            return -(-context_len // block_tokens) * block_tokens

        decodes = self.decodes
        return self.load._replace(
            n_prefill_attended=sum(chunk.n_tokens * keys(chunk.end) for chunk in self.prefills),
            n_decode_attended=len(decodes) * keys(max((chunk.end for chunk in decodes), default=0)),
        )


class Scheduler:
    """Requests waiting and running, and the blocks they hold. Drive it: ``schedule``, compute, ``record``."""

    def __init__(self, spec: ServingSpec, *, eos_token_ids: Collection[int] = ()) -> None:
        self.spec = spec
        self.eos_token_ids = frozenset(eos_token_ids)
        self.pool = BlockPool(spec.n_kv_blocks, spec.kv_block_tokens)
        self._waiting: deque[Request] = deque()
        self._running: list[Request] = []
        self._requests: dict[str, Request] = {}
        self.n_preemptions = 0

    @property
    def n_waiting(self) -> int:
        """Requests not in the batch: never admitted, or preempted."""
        return len(self._waiting)

    @property
    def n_running(self) -> int:
        """Requests in flight."""
        return len(self._running)

    @property
    def has_work(self) -> bool:
        """Whether any request is unfinished."""
        return bool(self._requests)

    def add(self, request: Request) -> None:
        """Queues a request. Raises SpecError if it can never fit or its id is taken."""
        longest = len(request.prompt_token_ids) + request.params.max_tokens
        if longest > self.spec.max_context_len:
            raise SpecError(
                f"request {request.id}: {len(request.prompt_token_ids)} prompt tokens + "
                f"max_tokens={request.params.max_tokens} exceed max_context_len={self.spec.max_context_len}"
            )
        if request.id in self._requests:
            raise SpecError(f"request {request.id}: an unfinished request has this id")
        self._requests[request.id] = request
        self._waiting.append(request)

    def schedule(self, now_s: float) -> Batch:
        """The next step, empty only if there is no request. ``now_s`` dates first admissions."""
        budget = self.spec.batch_size_tokens
        n_preemptions = self.n_preemptions
        decodes = self._decodes()
        budget -= len(decodes)
        prefills: list[Chunk] = []
        for request in self._running:
            if request.is_prefilling and budget:
                prefills.append(_prefill_chunk(request, budget))
                budget -= prefills[-1].n_tokens
        # A step that had to preempt admits nobody: the room it made is for those who run.
        while budget and self.n_preemptions == n_preemptions and self._admit(now_s):
            prefills.append(_prefill_chunk(self._running[-1], budget))
            budget -= prefills[-1].n_tokens
        assert decodes or prefills or not self._requests, "requests wait and nothing can run"
        return Batch((*decodes, *prefills))

    def record(self, batch: Batch, sampled: Mapping[str, int], now_s: float) -> list[Request]:
        """Takes in a computed step and the tokens sampled, by request id; returns who finished."""
        finished = []
        for chunk in batch.chunks:
            request = chunk.request
            if request.status is not Status.RUNNING:
                continue  # aborted while its step ran
            request.n_computed = chunk.end
            if chunk.wants_logits and (reason := self._append(request, sampled[request.id], now_s)):
                self._finish(request, reason, now_s)
                finished.append(request)
        return finished

    def abort(self, request_id: str, now_s: float, reason: FinishReason = FinishReason.ABORT) -> Request | None:
        """Ends a request early: its client left, or a stop string came. None if it is not there."""
        request = self._requests.get(request_id)
        if request is not None:
            self._finish(request, reason, now_s)
        return request

    def _decodes(self) -> list[Chunk]:
        """One token for every running answer, preempting from the newest while blocks lack."""
        return [
            Chunk(request, request.n_computed, 1, Phase.DECODE, True)
            for request in list(self._running)
            # the status is asked again for each: an earlier one may have preempted this one
            if request.status is Status.RUNNING and not request.is_prefilling and self._grow(request)
        ]

    def _grow(self, request: Request) -> bool:
        """Room for one more token; False if the request itself was the newest and had to go."""
        while self.pool.blocks_for(request.n_computed + 1) > len(request.block_table):
            if self.pool.n_free:
                request.block_table += self.pool.allocate(1)
                break
            newest = self._running[-1]
            self._preempt(newest)
            if newest is request:
                return False
        return True

    def _preempt(self, request: Request) -> None:
        assert self._running.pop() is request, "only the newest is preempted"
        self._release(request)
        request.status = Status.WAITING
        request.n_computed = 0
        request.n_preemptions += 1
        self.n_preemptions += 1
        self._waiting.appendleft(request)

    def _admit(self, now_s: float) -> bool:
        """Moves the first in the queue into the batch if it fits."""
        if not self._waiting or len(self._running) == self.spec.max_batch_size:
            return False
        request = self._waiting[0]
        n_blocks = self.pool.blocks_for(request.n_tokens)
        if n_blocks > self.pool.n_free:
            return False
        self._waiting.popleft()
        self._running.append(request)
        request.block_table = self.pool.allocate(n_blocks)
        request.status = Status.RUNNING
        request.n_to_prefill = request.n_tokens
        if request.scheduled_s is None:
            request.scheduled_s = now_s
        return True

    def _append(self, request: Request, token: int, now_s: float) -> FinishReason | None:
        request.output_token_ids.append(token)
        if request.first_token_s is None:
            request.first_token_s = now_s
        params = request.params
        if token in params.stop_token_ids or (token in self.eos_token_ids and not params.ignore_eos):
            return FinishReason.STOP
        return FinishReason.LENGTH if len(request.output_token_ids) == params.max_tokens else None

    def _finish(self, request: Request, reason: FinishReason, now_s: float) -> None:
        (self._running if request.status is Status.RUNNING else self._waiting).remove(request)
        self._release(request)
        del self._requests[request.id]
        request.status, request.finish_reason, request.finished_s = Status.FINISHED, reason, now_s

    def _release(self, request: Request) -> None:
        self.pool.free(request.block_table)
        request.block_table = []


def _prefill_chunk(request: Request, budget: int) -> Chunk:
    n_tokens = min(request.n_to_prefill - request.n_computed, budget)
    is_last = request.n_computed + n_tokens == request.n_to_prefill
    return Chunk(request, request.n_computed, n_tokens, Phase.PREFILL, is_last)
