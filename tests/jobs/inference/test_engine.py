"""The engine against the full forward pass, against itself under other batches, and against a profiler."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.jobs.inference.tiny_model import TINY, load
from twobills.errors import SpecError
from twobills.jobs.inference.engine import Engine
from twobills.jobs.inference.sampler import sample
from twobills.jobs.nn.decoder import Decoder
from twobills.meter.clock import ManualClock
from twobills.meter.meter import Meter
from twobills.meter.power import DeclaredPower
from twobills.serving.request import FinishReason, Request, SamplingParams
from twobills.serving.scheduler import Batch
from twobills.serving.simulate import simulate
from twobills.specs.dtype import DType
from twobills.specs.model import ModelSpec
from twobills.specs.serving import ServingSpec
from twobills.usage import Job, Phase, PhaseUsage, Usage

SPEC = ServingSpec(
    max_batch_size=6,
    batch_size_tokens=24,
    kv_block_tokens=4,
    n_kv_blocks=96,
    max_context_len=64,
    dtype=DType.FP32,
)
TIGHT = replace(SPEC, n_kv_blocks=24)
QWEN = replace(TINY, n_kv_heads=4, qk_norm=True, tied_embeddings=False)
ARCEE = replace(TINY, activation="relu2", gated_mlp=False)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def prompts(n_requests: int = 8, seed: int = 5) -> list[tuple[int, ...]]:
    rng = random.Random(seed)
    return [tuple(rng.randrange(TINY.vocab_size) for _ in range(rng.randint(1, 40))) for _ in range(n_requests)]


def serve(engine: Engine, params: SamplingParams, some: list[tuple[int, ...]] | None = None) -> list[list[int]]:
    requests = [
        Request(id=f"r{i}", prompt_token_ids=prompt, params=params) for i, prompt in enumerate(some or prompts())
    ]
    for request in requests:
        engine.add(request)
    while engine.has_work:
        engine.step()
    return [request.output_token_ids for request in requests]


def causal(layer: int, q_SHD: Tensor, k_SKD: Tensor, v_SKD: Tensor) -> Tensor:
    """Plain attention over the whole sequence, one head at a time."""
    del layer
    n, heads, size = q_SHD.shape
    group = heads // k_SKD.shape[1]
    mask = torch.full((n, n), -torch.inf).triu(1)
    mixed = [
        ((q_SHD[:, h] @ k_SKD[:, h // group].T) / size**0.5 + mask).softmax(-1) @ v_SKD[:, h // group]
        for h in range(heads)
    ]
    return torch.stack(mixed, dim=1)


@torch.no_grad()
def full_forward(decoder: Decoder, prompt: tuple[int, ...], n_tokens: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(n_tokens):
        hidden = decoder.hidden(torch.tensor(tokens), torch.arange(len(tokens)), causal)
        tokens.append(int(decoder.logits(hidden)[-1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("model", [TINY, QWEN, ARCEE], ids=["llama", "qwen3", "arcee"])
@pytest.mark.parametrize("spec", [SPEC, TIGHT], ids=["roomy", "preempting"])
def test_tokens_are_those_of_a_full_forward_pass(model: ModelSpec, spec: ServingSpec) -> None:
    loaded = load(model)
    expected = [full_forward(loaded.decoder, prompt, 20) for prompt in prompts()]
    assert len({token for answer in expected for token in answer}) > 12, "the model is meant to wander"
    engine = Engine(loaded, spec)
    params = SamplingParams(max_tokens=20)
    assert serve(engine, params) == expected
    assert (engine.scheduler.n_preemptions > 0) == (spec is TIGHT)
    alone = Engine(loaded, replace(spec, max_batch_size=1))
    assert [list(alone.generate(prompt, params)) for prompt in prompts()] == expected
    assert (engine.n_generated, engine.n_prompt) == (160, sum(map(len, prompts())))


def test_seeded_answers_do_not_depend_on_the_batch() -> None:
    loaded = load()
    params = SamplingParams(max_tokens=12, temperature=0.8, top_k=30, top_p=0.9, seed=7)
    together = serve(Engine(loaded, TIGHT), params)
    engine = Engine(loaded, SPEC, seed=99)
    assert [list(engine.generate(prompt, params)) for prompt in prompts()] == together
    assert serve(Engine(loaded, SPEC), replace(params, seed=8)) != together


def test_sampling_follows_the_probabilities_and_the_cuts() -> None:
    logits = torch.tensor([0.1, 0.5, 0.25, 0.15]).log().expand(4000, 4)

    def frequencies(**changes: float) -> list[float]:
        requests = [
            Request(
                id=str(i),
                prompt_token_ids=(1,),
                params=SamplingParams(max_tokens=1, seed=i, temperature=1.0, **changes),  # type: ignore[arg-type]
            )
            for i in range(4000)
        ]
        tokens = torch.tensor(sample(logits, requests, engine_seed=0))
        return [float((tokens == t).float().mean()) for t in range(4)]

    assert frequencies() == pytest.approx([0.1, 0.5, 0.25, 0.15], abs=0.03)
    assert frequencies(top_k=2) == pytest.approx([0, 2 / 3, 1 / 3, 0], abs=0.03)
    assert frequencies(top_p=0.8) == pytest.approx([0, 5 / 9, 2.5 / 9, 1.5 / 9], abs=0.03)
    assert frequencies(top_p=0.01) == [0, 1, 0, 0]


def test_a_row_keeps_its_draw_whatever_its_neighbours_ask() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    asked = [
        SamplingParams(max_tokens=1),
        SamplingParams(max_tokens=1, temperature=1.3, top_k=5, seed=1),
        SamplingParams(max_tokens=1, temperature=0.7, top_p=0.5),
    ]
    requests = [Request(id=str(i), prompt_token_ids=(1,), params=params) for i, params in enumerate(asked)]
    together = sample(logits, requests, engine_seed=3)
    alone = [sample(logits[i : i + 1], [request], engine_seed=3)[0] for i, request in enumerate(requests)]
    assert together == alone


def metered(clock: ManualClock) -> Meter:
    power = DeclaredPower(10.0, 2, clock)
    return Meter(Job.INFERENCE, n_chips=2, power=power, resting=Phase.IDLE, clock=clock)


def test_flops_are_the_profilers() -> None:
    clock = ManualClock()
    meter = metered(clock)
    engine = Engine(load(), TIGHT, meter, clock=clock)
    with FlopCounterMode(display=False) as counter:
        serve(engine, SamplingParams(max_tokens=20))
    assert meter.usage().total.flops == counter.get_total_flops()


def test_executed_load_foretells_what_runs() -> None:
    """Closed loop: the torch-free count of a batch's work equals what the attention multiplied."""
    clock = ManualClock()
    meter = metered(clock)
    engine = Engine(load(), SPEC, meter, clock=clock)
    loads = []
    schedule = engine.scheduler.schedule

    def watched(now_s: float) -> Batch:
        batch = schedule(now_s)
        loads.append(batch.executed_load(SPEC.kv_block_tokens))
        return batch

    engine.scheduler.schedule = watched  # type: ignore[method-assign]
    serve(engine, SamplingParams(max_tokens=9))
    used = meter.usage().phases
    assert used[Phase.PREFILL].tokens == sum(load.n_prefill_tokens for load in loads)
    assert used[Phase.DECODE].tokens == sum(load.n_decode_tokens for load in loads)
    from twobills.counts.flops import forward_flops

    assert used[Phase.DECODE].flops == pytest.approx(
        sum(
            forward_flops(
                TINY,
                n_tokens=load.n_decode_tokens,
                n_attended=load.n_decode_attended,
                n_logits=load.n_decode_tokens,
            )
            for load in loads
        )
    )


def test_the_meters_phases_add_up_and_are_shared_out_to_the_requests() -> None:
    clock = ManualClock()
    meter = metered(clock)
    engine = Engine(load(), SPEC, meter, clock=clock)
    usages: list[Usage] = []
    clock.advance(3.0)
    engine.rest()
    for i, prompt in enumerate(prompts()):
        engine.add(Request(id=str(i), prompt_token_ids=prompt, params=SamplingParams(max_tokens=6)))
    while engine.has_work:
        clock.advance(1.0)
        usages += [output.usage for output in engine.step() if output.usage]
        if engine.n_generated > 20:
            usages += [usage for i in "67" if (usage := engine.abort(i))]
    usage = meter.usage()
    assert usage.total.chip_s == pytest.approx(2 * clock.now_s)
    assert usage.total.energy.declared_j == pytest.approx(20 * clock.now_s)
    assert usage.phases[Phase.IDLE].chip_s == pytest.approx(6.0)
    for phase in (Phase.PREFILL, Phase.DECODE):
        shared = sum((u.phases.get(phase, PhaseUsage()) for u in usages), PhaseUsage())
        whole = usage.phases[phase]
        for field in ("tokens", "flops", "bytes", "chip_s"):
            assert getattr(shared, field) == pytest.approx(getattr(whole, field)), (phase, field)
        assert shared.energy.declared_j == pytest.approx(whole.energy.declared_j)


def test_engine_and_simulator_decide_alike() -> None:
    def decisions(batch: Batch) -> list[tuple[str, int, int]]:
        return [(chunk.request.id, chunk.start, chunk.n_tokens) for chunk in batch.chunks]

    def trace() -> list[Request]:
        return [
            Request(id=str(i), prompt_token_ids=prompt, params=SamplingParams(max_tokens=15), arrival_s=2.5 * i)
            for i, prompt in enumerate(prompts())
        ]

    simulated: list[list[tuple[str, int, int]]] = []
    result = simulate(trace(), TIGHT, lambda batch: simulated.append(decisions(batch)) or 1.0)  # type: ignore[func-returns-value]
    clock = ManualClock()
    engine = Engine(load(), TIGHT, clock=clock)
    ran, waiting = [], trace()
    schedule = engine.scheduler.schedule

    def watched(now_s: float) -> Batch:
        batch = schedule(now_s)
        ran.append(decisions(batch))
        clock.advance(1.0)
        return batch

    engine.scheduler.schedule = watched  # type: ignore[method-assign]
    while waiting or engine.has_work:
        if not engine.has_work:
            clock.now_s = max(clock.now_s, waiting[0].arrival_s)
        while waiting and waiting[0].arrival_s <= clock.now_s:
            engine.add(waiting.pop(0))
        engine.step()
    assert ran == simulated
    assert result.n_preemptions == engine.scheduler.n_preemptions > 0
    assert clock.now_s == result.end_s


def test_end_of_text_stops_and_leaving_a_generator_aborts() -> None:
    loaded = load()
    answer = list(Engine(loaded, SPEC).generate((1, 2, 3), SamplingParams(max_tokens=9)))
    loaded.eos_token_ids = frozenset({answer[4]})
    engine = Engine(loaded, SPEC)
    n_until = answer.index(answer[4]) + 1
    assert list(engine.generate((1, 2, 3), SamplingParams(max_tokens=9))) == answer[:n_until]
    assert list(engine.generate((1, 2, 3), SamplingParams(max_tokens=9, ignore_eos=True))) == answer
    left = engine.generate((1, 2, 3), SamplingParams(max_tokens=9))
    next(left)
    left.close()  # type: ignore[attr-defined]
    assert not engine.has_work
    assert engine.scheduler.pool.n_free == SPEC.n_kv_blocks


def test_bf16_serves_and_the_digest_holds() -> None:
    loaded = load()
    answers = serve(Engine(loaded, replace(SPEC, dtype=DType.BF16)), SamplingParams(max_tokens=5))
    assert all(len(answer) == 5 for answer in answers)
    assert loaded.digest_now() == loaded.digest
    with torch.no_grad():
        loaded.decoder.model.norm.weight[0] += 0.5
    assert loaded.digest_now() != loaded.digest


def test_limits_that_cannot_be_kept_are_refused() -> None:
    with pytest.raises(SpecError, match="max_context_len=200"):
        Engine(load(), replace(SPEC, max_context_len=200))
    with pytest.raises(SpecError, match="dtype=int8"):
        Engine(load(), replace(SPEC, dtype=DType.INT8))
    engine = Engine(load(), SPEC)
    with pytest.raises(SpecError, match="outside 0 to 96"):
        engine.add(Request(id="a", prompt_token_ids=(97,), params=SamplingParams(max_tokens=1)))
    engine.add(Request(id="b", prompt_token_ids=(5,), params=SamplingParams(max_tokens=4)))
    engine.step()
    engine.abort("b", FinishReason.STOP)
    assert engine.step() == []
