"""The real OpenAI client against the real server, a tiny random model behind it."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
import torch
from openai.types.chat import ChatCompletionMessageParam
from prometheus_client.parser import text_string_to_metric_families
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from twobills.errors import ServerError
from twobills.jobs.inference.engine import Engine
from twobills.jobs.inference.weights import load_folder
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.server.app import create_app
from twobills.jobs.server.loop import EngineLoop
from twobills.jobs.server.serve import background_server, run_server
from twobills.meter.meter import Meter
from twobills.meter.power import DeclaredPower
from twobills.specs.dtype import DType
from twobills.specs.hf import to_hf
from twobills.specs.model import ModelSpec
from twobills.specs.serving import ServingSpec
from twobills.usage import Job, Phase, Usage

MODEL = "tiny"
PROMPT = "def add(a, b):\n    return"


class Served:
    """A running server and what is behind it."""

    def __init__(self, url: str, loop: EngineLoop, meter: Meter) -> None:
        self.url, self.loop, self.meter = url, loop, meter
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)

    def metrics(self) -> dict[str, float]:
        """Samples summed over their labels."""
        out: dict[str, float] = {}
        for family in text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text):
            for sample in family.samples:
                out[sample.name] = out.get(sample.name, 0.0) + sample.value
        return out


def write_model(folder: Path) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([Path(__file__).read_text()], trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    model = ModelSpec(
        name=MODEL, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_head=8, d_ff=48, vocab_size=320,
        max_seq_len=256,
    )  # fmt: skip
    decoder = Decoder(model)
    decoder.initialise(torch.Generator().manual_seed(0))
    state = {
        name: tensor * 8 if "layers" in name and tensor.dim() == 2 else tensor
        for name, tensor in decoder.state_dict().items()
    }
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(to_hf(model, dtype="float32", eos_token_id=0)))


def price(usage: Usage) -> float:
    return 0.01 * usage.total.chip_s


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    write_model(path)
    return path


@pytest.fixture
def served(folder: Path) -> Iterator[Served]:
    power = DeclaredPower(10.0, 2)
    meter = Meter(Job.INFERENCE, n_chips=2, power=power, resting=Phase.IDLE)
    spec = ServingSpec(
        max_batch_size=8, batch_size_tokens=32, kv_block_tokens=4, n_kv_blocks=256, max_context_len=200,
        dtype=DType.FP32,
    )  # fmt: skip
    loop = EngineLoop(Engine(load_folder(folder), spec, meter), meter)
    with background_server(create_app(loop, MODEL, price)) as url:
        server = Served(url, loop, meter)
        with server.client:
            yield server


def test_completes_and_chats_whole_and_streamed(served: Served) -> None:
    client = served.client
    assert [model.id for model in client.models.list()] == [MODEL]
    whole = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=12, temperature=0)
    assert whole.usage is not None
    n_prompt = len(served.loop.tokenizer.encode(PROMPT).ids)
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (n_prompt, 12)
    assert whole.usage.total_tokens == n_prompt + 12
    assert whole.choices[0].finish_reason == "length"
    assert whole.choices[0].text

    text, usage = "", None
    for chunk in client.completions.create(
        model=MODEL,
        prompt=PROMPT,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    ):
        text += chunk.choices[0].text if chunk.choices else ""
        usage = chunk.usage or usage
    assert text == whole.choices[0].text
    assert usage == whole.usage

    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hello"}]
    chat = client.chat.completions.create(model=MODEL, messages=messages, max_completion_tokens=9, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=messages,
            max_tokens=9,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert streamed == chat.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == chat.usage
    assert chat.usage is not None
    assert chat.usage.prompt_tokens == len(served.loop.tokenizer.encode("user: hello\nassistant:").ids)
    details = chat.usage.to_dict()
    assert details["completion_tokens_details"] == {"reasoning_tokens": 0}
    assert details["prompt_tokens_details"] == {"cached_tokens": 0}


def test_the_bill_stands_beside_the_usage_and_the_sums_agree(served: Served) -> None:
    replies = [
        served.client.completions.create(model=MODEL, prompt=PROMPT[: 4 + i], max_tokens=5 + i, temperature=1.0)
        for i in range(6)
    ]
    bills = [reply.model_extra["twobills"] for reply in replies if reply.model_extra]
    assert len(bills) == 6
    assert all(bill["attributed"] and bill["usd"] == pytest.approx(0.01 * bill["chip_s"]) for bill in bills)
    reading = httpx.get(f"{served.url}/twobills/usage").json()
    assert Usage.from_json(reading).job is Job.INFERENCE
    busy = [reading["phases"][phase] for phase in ("prefill", "decode")]
    assert sum(bill["flops"] for bill in bills) == pytest.approx(sum(phase["flops"] for phase in busy))
    assert sum(bill["chip_s"] for bill in bills) == pytest.approx(sum(phase["chip_s"] for phase in busy))
    assert reading["phases"]["idle"]["chip_s"] > 0

    metrics = served.metrics()
    usages = [reply.usage for reply in replies if reply.usage]
    assert metrics["vllm:prompt_tokens_total"] == sum(usage.prompt_tokens for usage in usages)
    assert metrics["vllm:generation_tokens_total"] == sum(usage.completion_tokens for usage in usages)
    assert metrics["vllm:request_success_total"] == 6
    assert metrics["twobills_flops_total"] == pytest.approx(sum(bill["flops"] for bill in bills))
    assert metrics["twobills_usd_total"] == pytest.approx(0.01 * metrics["twobills_chip_seconds_total"])


def test_metrics_have_the_names_that_dashboards_read(served: Served) -> None:
    served.client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=3, extra_body={"ignore_eos": True})
    page = httpx.get(f"{served.url}/metrics").text
    metrics = served.metrics()
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "num_preemptions_total",
    ):
        assert metrics[f"vllm:{name}"] == 0
    for name in (
        "time_to_first_token_seconds", "inter_token_latency_seconds", "e2e_request_latency_seconds",
        "request_queue_time_seconds", "request_prefill_time_seconds", "request_decode_time_seconds",
        "request_prompt_tokens", "request_generation_tokens",
    ):  # fmt: skip
        assert metrics[f"vllm:{name}_count"] >= 1, name
    assert 'vllm:request_success_total{finished_reason="length",model_name="tiny"} 1.0' in page
    assert 'twobills_joules_total{model_name="tiny",phase="decode",stamp="declared"}' in page


def test_concurrent_answers_are_those_given_alone(served: Served) -> None:
    prompts = [PROMPT[: 3 + 2 * i] for i in range(10)]

    def complete(prompt: str) -> str:
        reply = served.client.completions.create(model=MODEL, prompt=prompt, max_tokens=20, temperature=0)
        return reply.choices[0].text

    alone = [complete(prompt) for prompt in prompts]
    assert len(set(alone)) > 5, "the model is meant to wander"
    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(complete, prompts)) == alone
    batched = served.client.completions.create(model=MODEL, prompt=prompts, max_tokens=20, temperature=0)
    assert [choice.text for choice in batched.choices] == alone
    ids = [served.loop.tokenizer.encode(prompt).ids for prompt in prompts[:2]]
    by_ids = served.client.completions.create(model=MODEL, prompt=ids, max_tokens=20, temperature=0)
    assert [choice.text for choice in by_ids.choices] == alone[:2]


def test_several_answers_differ_and_a_seed_repeats_them(served: Served) -> None:
    def three() -> list[str]:
        reply = served.client.completions.create(
            model=MODEL, prompt=PROMPT, max_tokens=10, n=3, seed=4, temperature=1.2, top_p=0.95
        )
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 30
        return [choice.text for choice in reply.choices]

    first = three()
    assert len(set(first)) == 3
    assert three() == first


def test_stop_strings_end_the_text_before_them(served: Served) -> None:
    def complete(**extra: object) -> openai.types.Completion:
        return served.client.completions.create(  # type: ignore[no-any-return,call-overload]
            model=MODEL, prompt=PROMPT, max_tokens=30, temperature=0, **extra
        )

    text = complete().choices[0].text
    stop = text[6:9]
    stopped = complete(stop=[stop, "never this"])
    assert stopped.choices[0].text == text[: text.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"
    assert stopped.usage is not None
    assert stopped.usage.completion_tokens < 30
    chunks = list(complete(stop=stop, stream=True))
    assert "".join(c.choices[0].text for c in chunks) == text[: text.index(stop)]  # type: ignore[attr-defined]
    assert chunks[-1].choices[0].finish_reason == "stop"  # type: ignore[attr-defined]


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_takes_its_request_with_it(served: Served, stream: bool) -> None:
    body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 180, "stream": stream, "ignore_eos": True}
    step = served.loop.engine.step

    def slow() -> object:
        time.sleep(0.05)
        return step()

    served.loop.engine.step = slow  # type: ignore[method-assign,assignment]
    if stream:
        with httpx.stream("POST", f"{served.url}/v1/completions", json=body) as reply:
            next(reply.iter_lines())
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.url}/v1/completions", json=body, timeout=0.3)
    _until(lambda: served.loop.engine.n_generated > 0 and not served.loop.engine.has_work)
    assert served.loop.engine.n_generated < 100
    _until(lambda: 'finished_reason="abort"' in httpx.get(f"{served.url}/metrics").text)


def _until(true: Callable[[], bool], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "code"),
    [
        ("completions", {"prompt": "a"}, 400, "model", None),
        ("completions", {"model": "gpt", "prompt": "a"}, 404, "model", "model_not_found"),
        ("completions", {"model": MODEL}, 400, "prompt", None),
        ("completions", {"model": MODEL, "prompt": ""}, 400, "prompt", None),
        ("completions", {"model": MODEL, "prompt": []}, 400, "prompt", None),
        ("completions", {"model": MODEL, "prompt": [999]}, 400, "prompt", None),
        ("completions", {"model": MODEL, "prompt": "a", "max_tokens": "x"}, 400, "max_tokens", None),
        ("completions", {"model": MODEL, "prompt": "a", "max_tokens": 0}, 400, "max_tokens", None),
        ("completions", {"model": MODEL, "prompt": "a", "temperature": -1}, 400, "temperature", None),
        ("completions", {"model": MODEL, "prompt": "a", "n": 0}, 400, "n", None),
        (
            "completions",
            {"model": MODEL, "prompt": "a", "logprobs": 0},
            400,
            "logprobs",
            "unsupported_parameter",
        ),
        ("completions", {"model": MODEL, "prompt": "a", "echo": True}, 400, "echo", "unsupported_parameter"),
        (
            "completions",
            {"model": MODEL, "prompt": "a", "max_tokens": 500},
            400,
            "prompt",
            "context_length_exceeded",
        ),
        ("chat/completions", {"model": MODEL, "messages": []}, 400, "messages", None),
        (
            "chat/completions",
            {"model": MODEL, "messages": [{"role": "user", "content": "word " * 300}]},
            400,
            "messages",
            "context_length_exceeded",
        ),
        (
            "chat/completions",
            {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            400,
            "messages",
            None,
        ),
        (
            "chat/completions",
            {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]},
            400,
            "tools",
            "unsupported_parameter",
        ),
        (
            "chat/completions",
            {
                "model": MODEL,
                "messages": [{"role": "user", "content": "a"}],
                "response_format": {"type": "json_object"},
            },
            400,
            "response_format",
            "unsupported_parameter",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_openais_shape(
    refusing: Served, path: str, body: dict[str, object], status: int, param: str, code: str | None
) -> None:
    reply = httpx.post(f"{refusing.url}/v1/{path}", json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["code"]) == (status, param, code), error
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.fixture(scope="module")
def refusing(folder: Path) -> Iterator[Served]:
    meter = Meter(Job.INFERENCE, n_chips=2, power=DeclaredPower(10.0, 2), resting=Phase.IDLE)
    spec = ServingSpec(max_context_len=200, n_kv_blocks=64, dtype=DType.FP32)
    loop = EngineLoop(Engine(load_folder(folder), spec))
    with background_server(create_app(loop, MODEL)) as url:
        yield Served(url, loop, meter)


def test_small_routes_and_what_is_accepted(refusing: Served) -> None:
    assert httpx.get(f"{refusing.url}/health").status_code == 200
    assert httpx.get(f"{refusing.url}/version").json()["version"]
    assert httpx.get(f"{refusing.url}/twobills/usage").json()["usage"] is None
    not_json = httpx.post(f"{refusing.url}/v1/completions", content=b"{")
    assert not_json.status_code == 400
    body = {
        "model": MODEL,
        "prompt": "a",
        "max_tokens": 2,
        "unheard_of": 1,
        "presence_penalty": 0.0,
        "tools": [],
    }
    reply = httpx.post(f"{refusing.url}/v1/completions", json=body)
    assert reply.status_code == 200
    assert "twobills" not in reply.json(), "without a meter there is nothing to bill"


def test_a_failed_engine_is_told_to_clients_and_to_health(served: Served) -> None:
    def fail() -> object:
        raise RuntimeError("out of luck")

    served.loop.engine.step = fail  # type: ignore[method-assign,assignment]
    with pytest.raises(openai.InternalServerError, match="out of luck"):
        served.client.completions.create(model=MODEL, prompt=PROMPT)
    assert httpx.get(f"{served.url}/health").status_code == 503
    with pytest.raises(openai.InternalServerError, match="out of luck"):
        served.client.completions.create(model=MODEL, prompt=PROMPT)


def test_chat_template_of_the_folder_is_used(folder: Path, tmp_path: Path) -> None:
    from twobills.errors import ModelFolderError
    from twobills.jobs.server.chat import ChatTemplate
    from twobills.jobs.server.protocol import ApiError, ChatMessage

    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'x' %}{{ raise_exception('no x') }}{% endif %}"
        "[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    config = {"chat_template": template, "bos_token": {"content": "<s>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    chat = ChatTemplate(tmp_path)
    assert chat.render([ChatMessage(role="user", content="hi")]) == "<s>[user]hi[assistant]"
    with pytest.raises(ApiError, match="no x"):
        chat.render([ChatMessage(role="x", content="hi")])
    (tmp_path / "chat_template.jinja").write_text("{% broken")
    with pytest.raises(ModelFolderError, match="chat template is damaged"):
        ChatTemplate(tmp_path)
    assert ChatTemplate(folder).render([ChatMessage(role="user", content="hi")]) == "user: hi\nassistant:"


def test_a_port_in_use_is_one_line(refusing: Served) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        app = create_app(refusing.loop, MODEL)
        with pytest.raises(ServerError, match=f"port {port} is in use; choose another with --port") as caught:
            run_server(app, "127.0.0.1", port)
        assert "\n" not in str(caught.value)


def test_stopping_leaves_no_thread(folder: Path) -> None:
    spec = ServingSpec(max_context_len=200, n_kv_blocks=64, dtype=DType.FP32)
    loop = EngineLoop(Engine(load_folder(folder), spec))
    with background_server(create_app(loop, MODEL)) as url:
        assert httpx.get(f"{url}/health").status_code == 200
        assert any(thread.name == "engine" for thread in threading.enumerate() if thread is loop._thread)
    assert loop._thread is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_gracefully_and_the_call_returns(folder: Path, number: signal.Signals) -> None:
    """What is in flight is finished first, and the caller can still close the books."""
    spec = ServingSpec(max_context_len=200, n_kv_blocks=64, dtype=DType.FP32)
    loop = EngineLoop(Engine(load_folder(folder), spec))
    replies: list[httpx.Response] = []

    def visit(url: str) -> None:
        body = {"model": MODEL, "prompt": PROMPT, "max_tokens": 100, "ignore_eos": True}
        replies.append(httpx.post(f"{url}/v1/completions", json=body))

    def ready(url: str) -> None:
        visitor.append(threading.Thread(target=visit, args=[url]))
        visitor[0].start()

        def end() -> None:
            _until(lambda: loop.engine.n_generated > 0)
            signal.pthread_kill(threading.main_thread().ident or 0, number)

        threading.Thread(target=end).start()

    visitor: list[threading.Thread] = []
    before = signal.getsignal(number)
    assert run_server(create_app(loop, MODEL), "127.0.0.1", 0, ready) is number
    visitor[0].join()
    assert replies[0].status_code == 200
    assert replies[0].json()["usage"]["completion_tokens"] == 100
    assert signal.getsignal(number) is before
