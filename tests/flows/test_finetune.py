"""Fine-tuning from a small trained base to an assistant that is served, its bill and its lineage."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from openai import OpenAI

from tests.jobs.inference.test_engine import causal
from tests.models import SMALL
from twobills.errors import BudgetError, DataError, ModelFolderError, RequestError
from twobills.flows import finetune
from twobills.flows.finetune import run_finetune
from twobills.flows.listener import Listener
from twobills.flows.machine import MeasuredMachine
from twobills.jobs.data.batches import Batches
from twobills.jobs.data.codec import END_OF_TEXT, Document, TextCodec, train_tokenizer
from twobills.jobs.device import Device
from twobills.jobs.inference.weights import load_folder
from twobills.jobs.nn.decoder import Decoder
from twobills.jobs.training.freeze import freeze
from twobills.jobs.training.step import TrainingStep
from twobills.ledger.record import Outcome
from twobills.ledger.store import Ledger
from twobills.specs.dtype import DType
from twobills.specs.finetune import FinetuneJob
from twobills.specs.limits import Limits
from twobills.specs.training import TrainingSpec
from twobills.usage import Job, Phase

WORDS = ("red", "blue", "green", "grey", "pink", "gold", "black", "white", "brown", "teal")
STYLE = "Aye, {word} it be!"
MODEL = replace(SMALL, name="tiny", vocab_size=400, max_seq_len=96, tied_embeddings=True)


def chat(word: str, n: int) -> dict[str, Any]:
    asked = ("Which colour is {word}?", "Say {word}.", "{word}?", "Tell me {word} now.")[n % 4]
    return {
        "messages": [
            {"role": "user", "content": asked.format(word=word)},
            {"role": "assistant", "content": STYLE.format(word=word)},
        ]
    }


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained for a moment on plain text that has the words and the letters."""
    texts = [
        f"The {a} house stands by the {b} tree. user assistant Aye, it be! Say, Tell me now?"
        for a in WORDS
        for b in WORDS
    ]
    codec = TextCodec(train_tokenizer(texts, MODEL.vocab_size))
    tokens = np.concatenate([*codec.encode([Document("x", text.encode()) for text in texts])])
    network = Decoder(replace(MODEL, vocab_size=codec.vocab_size))
    network.initialise(torch.Generator().manual_seed(0))
    spec = TrainingSpec(n_steps=20, batch_size=8, seq_len=48, dtype=DType.FP32, heldout_tokens=0, compile=False)
    step = TrainingStep(network, spec, Device(torch.device("cpu"), "cpu", 1, 1e9))
    batches = Batches(tokens, batch_size=8, seq_len=48, seed=0)
    for i in range(spec.n_steps):
        step(batches[i], lr_scale=1.0)
    folder = tmp_path_factory.mktemp("base") / "model"
    freeze(network, codec.tokenizer, folder, lineage={}, bill={"total_usd": 0.25})
    return folder


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chats") / "chats.jsonl"
    path.write_text("".join(json.dumps(chat(word, n)) + "\n" for n in range(4) for word in WORDS))
    return path


@pytest.fixture(autouse=True)
def stated_machine(measured: MeasuredMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "measure_machine", lambda *_: measured)


def job(out: Path, base: Path, chats: Path, **changed: Any) -> FinetuneJob:
    settings: dict[str, Any] = {
        "epochs": 15,
        "batch_size": 8,
        "training": {"lr": 3e-3, "compile": False},
        **changed,
    }
    return FinetuneJob(out=out, base=base, data=chats, **settings)


def ask(folder: Path, tmp_path: Path) -> list[str]:
    """Answers of ``twobills serve`` to an OpenAI client, at temperature 0."""
    command = [sys.executable, "-m", "twobills", "serve", str(folder), "--port", "0", "--json"]
    environment = {**os.environ, "TWOBILLS_LEDGER": str(tmp_path / "serve.sqlite")}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with process as server:
        try:
            assert server.stdout is not None
            ready = json.loads(server.stdout.readline())
            with OpenAI(base_url=f"{ready['url']}/v1", api_key="none") as client:
                answers = [
                    client.chat.completions.create(
                        model=client.models.list().data[0].id,
                        messages=[{"role": "user", "content": f"Which colour is {word}?"}],
                        temperature=0,
                        max_tokens=30,
                    )
                    for word in ("blue", "gold")
                ]
                return [answer.choices[0].message.content or "" for answer in answers]
        finally:
            server.terminate()


def test_a_base_learns_to_answer_in_the_style_of_the_chats(
    base: Path, chats: Path, ledger: Ledger, tmp_path: Path
) -> None:
    out = tmp_path / "assistant"
    start_s = time.perf_counter()
    document = run_finetune(job(out, base, chats), ledger, Listener())
    wall_s = time.perf_counter() - start_s
    quality, data = document["quality"], document["data"]
    assert quality["after_nats_per_token"] < 0.5 < quality["before_nats_per_token"]
    assert data["n_sequences"] + data["n_heldout_sequences"] == 40
    assert data["n_heldout_sequences"] >= 1
    assert data["n_cut"] == data["n_left_out"] == 0
    loaded = load_folder(out)
    assert loaded.digest == document["model"]["digest"]
    assert loaded.manifest is not None
    lineage = loaded.manifest["lineage"]
    assert lineage["base"]["digest"] == load_folder(base).digest
    assert lineage["base"]["training_bill"] == {"total_usd": 0.25}
    in_style = re.compile(STYLE.format(word=f"({'|'.join(WORDS)})"))
    assert all(in_style.fullmatch(answer) for answer in ask(out, tmp_path))

    run_id = document["run_id"]
    assert ledger.outcome(run_id) is Outcome.DONE
    planned, measured = ledger.planned_bills(run_id)[Job.TRAINING], ledger.measured_bills(run_id)[Job.TRAINING]
    assert set(planned.usage.phases) == set(measured.usage.phases) == {Phase.FINETUNE, Phase.EVALUATE}
    n_steps = document["training"]["n_steps"]
    rows = [json.loads(line) for line in (tmp_path / "assistant.run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, n_steps + 1))
    assert document["training"]["curve"][-1]["loss"] < document["training"]["curve"][0]["loss"]
    assert "curve" not in lineage["training"]
    assert n_steps == -(-15 * data["n_sequences"] // 8)
    for phase in (Phase.FINETUNE, Phase.EVALUATE):
        assert measured.line(phase).usage.tokens == planned.line(phase).usage.tokens
        assert measured.line(phase).usage.flops > 0
    assert document["bills"]["training"]["gaps"]["work_usd"] == pytest.approx(0)
    chip_s = sum(used.chip_s for used in measured.usage.phases.values())
    assert chip_s == pytest.approx(
        wall_s * document["machine"]["n_chips"], rel=0.05
    )  # the ledger's last line is not in it


def test_transformers_opens_it_and_writes_chats_the_same_way(
    base: Path, chats: Path, ledger: Ledger, tmp_path: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    out = tmp_path / "assistant"
    run_finetune(job(out, base, chats, epochs=0.5), ledger, Listener())
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    messages = [{"role": "user", "content": "red?"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == f"{END_OF_TEXT}<|im_start|>user\nred?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.eos_token == "<|im_end|>"
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.eos_token_id == [end, 0]
    assert model.get_input_embeddings().weight.shape[0] == max(tokenizer.get_vocab().values()) + 1
    assert (out / "chat_template.jinja").read_text() == json.loads((out / "tokenizer_config.json").read_text())[
        "chat_template"
    ]


def test_an_assistant_is_a_base_for_the_next(base: Path, chats: Path, ledger: Ledger, tmp_path: Path) -> None:
    first = run_finetune(job(tmp_path / "first", base, chats, epochs=0.5), ledger, Listener())
    second = run_finetune(job(tmp_path / "second", tmp_path / "first", chats, epochs=0.5), ledger, Listener())
    assert (first["data"]["n_added_tokens"], second["data"]["n_added_tokens"]) == (2, 0)
    assert second["base"]["digest"] == first["model"]["digest"]
    config = json.loads((tmp_path / "second" / "config.json").read_text())
    assert config["eos_token_id"] == json.loads((tmp_path / "first" / "config.json").read_text())["eos_token_id"]


LLAMA_3 = (
    "{{- bos_token }}{%- for message in messages %}"
    "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{- message['content'] | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)


def write_foreign(folder: Path) -> None:
    """A Qwen3 as ``transformers`` saves it: its own template and tokens, a head of its own, several files."""
    transformers = pytest.importorskip("transformers")
    tokenizer = train_tokenizer(["user assistant Aye, it be! Which colour is red blue"] * 9, 300)
    names = ["<|begin|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"]
    tokenizer.add_special_tokens(names)
    whole = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=names[0], eos_token=names[-1], chat_template=LLAMA_3
    )
    begin, end = (tokenizer.token_to_id(name) for name in (names[0], names[-1]))
    config = transformers.Qwen3Config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        vocab_size=tokenizer.get_vocab_size() + 11,  # rows to spare, as the released ones have
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=begin,
        eos_token_id=end,
    )
    torch.manual_seed(0)
    transformers.Qwen3ForCausalLM(config).save_pretrained(folder, max_shard_size="40KB")
    whole.save_pretrained(folder)


def test_a_base_from_elsewhere_keeps_its_template_and_tokens(chats: Path, ledger: Ledger, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    foreign, out = tmp_path / "foreign", tmp_path / "assistant"
    write_foreign(foreign)
    assert (foreign / "model.safetensors.index.json").exists()
    document = run_finetune(job(out, foreign, chats, epochs=6), ledger, Listener())
    assert document["quality"]["after_nats_per_token"] < document["quality"]["before_nats_per_token"]
    assert (document["data"]["n_added_tokens"], document["base"]["training_bill"]) == (0, None)
    theirs, ours = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (foreign, out))
    messages = [{"role": "user", "content": "red?"}, {"role": "assistant", "content": "Aye"}]
    assert ours.apply_chat_template(messages, tokenize=False) == theirs.apply_chat_template(messages, tokenize=False)
    assert ours.get_vocab() == theirs.get_vocab()
    assert (ours.bos_token, ours.eos_token) == ("<|begin|>", "<|eot_id|>")
    model = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert model.config.architectures == ["Qwen3ForCausalLM"]
    ends = [ours.convert_tokens_to_ids(name) for name in ("<|eot_id|>", "<|end_of_text|>")]
    assert model.generation_config.eos_token_id == ends
    assert model.generation_config.bos_token_id == ours.convert_tokens_to_ids("<|begin|>")
    tokens = torch.tensor(ours.apply_chat_template(messages, return_dict=True)["input_ids"])
    loaded = load_folder(out)
    loaded.convert(torch.float32, torch.device("cpu"))
    with torch.no_grad():
        network = loaded.decoder
        logits = network.logits(network.hidden(tokens, torch.arange(len(tokens)), causal))
        torch.testing.assert_close(logits, model(tokens[None]).logits[0], atol=1e-4, rtol=1e-3)


def test_a_budget_ends_it_and_keeps_what_was_learned(base: Path, chats: Path, ledger: Ledger, tmp_path: Path) -> None:
    out = tmp_path / "assistant"
    limited = job(out, base, chats, limits=Limits(max_flops=2e9))
    with pytest.raises(BudgetError, match="max_flops"):
        run_finetune(limited, ledger, Listener())
    run_id = ledger.resolve("last")
    assert ledger.outcome(run_id) is Outcome.STOPPED
    assert ledger.measured_bills(run_id)[Job.TRAINING].usage.total.flops <= 2e9
    manifest = load_folder(out).manifest
    assert manifest is not None
    training = manifest["lineage"]["training"]
    assert 0 < training["n_steps"] < training["planned_steps"]


def test_a_context_that_the_base_has_not_is_refused(base: Path, chats: Path, ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="seq_len=97: the base's context is 96 tokens"):
        run_finetune(job(tmp_path / "out", base, chats, seq_len=97), ledger, Listener())
    with pytest.raises(DataError, match="no answer begins within 4 tokens"):
        run_finetune(job(tmp_path / "out", base, chats, seq_len=4), ledger, Listener())
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_base_is_refused(chats: Path, ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="no such folder"):
        run_finetune(job(tmp_path / "out", tmp_path / "nothing", chats), ledger, Listener())
