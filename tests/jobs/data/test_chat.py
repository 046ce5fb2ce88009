"""Chats: exactly the answers are learned, as they are asked for, and a bad line is named."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from twobills.errors import DataError
from twobills.jobs.chat_template import CHATML, TURN_END, TURN_START, ChatTemplate
from twobills.jobs.data.batch import IGNORED
from twobills.jobs.data.chat import Answers, Chat, ChatBatches, ChatEncoder, padded, read_chats, split_chats
from twobills.jobs.data.codec import END_OF_TEXT, train_tokenizer

BOS = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
TWO_TURNS = (
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello there"},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": " bye"},
    {"role": "user", "content": "nobody answers this"},
)
ONE_AT_A_TIME = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
    "{% if m.role == 'assistant' and loop.last %}{{ 'I think. ' }}{% endif %}{{ m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""Only the last answer shows its thoughts, as reasoning models' templates have it."""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    tokenizer = train_tokenizer(["Hello there system user assistant Be brief. And? bye"] * 5, 300)
    tokenizer.add_special_tokens([TURN_START, TURN_END])
    return tokenizer


def encoder(tokenizer: Tokenizer, source: str = CHATML) -> ChatEncoder:
    return ChatEncoder(tokenizer, ChatTemplate(source, BOS, where="here"))


def chat(*messages: dict[str, Any]) -> Chat:
    return Chat("chats.jsonl:1", messages)


def learned_texts(tokenizer: Tokenizer, answers: Answers) -> list[str]:
    """What is learned, one text for each stretch of tokens."""
    tokens = zip(answers.tokens.tolist(), answers.learned.tolist(), strict=True)
    stretches = [[token for token, _ in part] for learned, part in groupby(tokens, lambda pair: pair[1]) if learned]
    return [tokenizer.decode(stretch, skip_special_tokens=False) for stretch in stretches]


def test_exactly_the_answers_are_learned(tokenizer: Tokenizer) -> None:
    encoded = encoder(tokenizer)([chat(*TWO_TURNS)], max_seq_len=1000)
    (answers,) = encoded.sequences
    assert tokenizer.decode(answers.tokens.tolist(), skip_special_tokens=False) == (
        "<|end|><|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello there<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n"
        "<|im_start|>assistant\n bye<|im_end|>\n"
    )
    assert learned_texts(tokenizer, answers) == ["Hello there<|im_end|>", " bye<|im_end|>"]
    assert answers.n_learned == sum(answers.learned)
    assert encoded.end_ids == {tokenizer.token_to_id(TURN_END)}
    assert (encoded.n_cut, encoded.n_left_out) == (0, 0)


def test_targets_are_the_next_tokens_of_answers_and_nothing_else(tokenizer: Tokenizer) -> None:
    (answers,) = encoder(tokenizer)([chat(*TWO_TURNS)], max_seq_len=1000).sequences
    batch = padded([answers], 200)
    n = len(answers.tokens) - 1
    assert batch.inputs[0, :n].tolist() == answers.tokens[:-1].tolist()
    assert (batch.targets[0, n:] == IGNORED).all()
    for place in range(n):
        expected = answers.tokens[place + 1] if answers.learned[place + 1] else IGNORED
        assert batch.targets[0, place] == expected
    assert batch.n_targets == answers.n_learned


def test_tokens_and_mask_are_those_of_transformers(tokenizer: Tokenizer) -> None:
    transformers = pytest.importorskip("transformers")
    source = (
        "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}"
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}"
        "{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    messages = TWO_TURNS[:-1]
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT
    ).apply_chat_template(list(messages), chat_template=source, return_dict=True, return_assistant_tokens_mask=True)
    (answers,) = encoder(tokenizer, source)([chat(*messages)], max_seq_len=1000).sequences
    assert answers.tokens.tolist() == theirs["input_ids"]
    assert answers.learned.astype(int).tolist() == theirs["assistant_masks"]


def test_a_prompt_at_inference_has_the_tokens_that_were_trained_on(tokenizer: Tokenizer) -> None:
    template = ChatTemplate(CHATML, BOS, where="here")
    prompt = tokenizer.encode(template.render(TWO_TURNS[:4], add_generation_prompt=True), add_special_tokens=False).ids
    (answers,) = encoder(tokenizer)([chat(*TWO_TURNS)], max_seq_len=1000).sequences
    assert answers.tokens[: len(prompt)].tolist() == prompt
    assert answers.learned[len(prompt)]


def test_a_message_of_weight_0_is_only_read(tokenizer: Tokenizer) -> None:
    messages: list[dict[str, Any]] = [dict(message) for message in TWO_TURNS]
    messages[2]["weight"] = 0
    (answers,) = encoder(tokenizer)([chat(*messages)], max_seq_len=1000).sequences
    assert learned_texts(tokenizer, answers) == [" bye<|im_end|>"]


def test_where_earlier_answers_are_rewritten_each_is_a_sequence(tokenizer: Tokenizer) -> None:
    encoded = encoder(tokenizer, ONE_AT_A_TIME)([chat(*TWO_TURNS)], max_seq_len=1000)
    assert [learned_texts(tokenizer, answers) for answers in encoded.sequences] == [
        ["I think. Hello there<|im_end|>"],
        ["I think.  bye<|im_end|>"],
    ]


def test_what_is_longer_than_the_context_is_cut_or_left_out(tokenizer: Tokenizer) -> None:
    long = chat({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there " * 50})
    silent = chat({"role": "user", "content": "Hi " * 100}, {"role": "assistant", "content": "Hello"})
    encoded = encoder(tokenizer)([long, silent, chat(*TWO_TURNS)], max_seq_len=64)
    assert (encoded.n_cut, encoded.n_left_out, len(encoded.sequences)) == (1, 1, 2)
    assert encoded.longest == 64
    assert all(sequence.n_learned for sequence in encoded.sequences)


def test_batches_are_a_function_of_the_step_and_see_every_chat_once_an_epoch(tokenizer: Tokenizer) -> None:
    chats = [chat({"role": "user", "content": str(i)}, {"role": "assistant", "content": "x"}) for i in range(6)]
    encoded = encoder(tokenizer)(chats, max_seq_len=64)
    batches = ChatBatches(encoded, batch_size=3, seq_len=encoded.longest, seed=1)
    again = ChatBatches(encoded, batch_size=3, seq_len=encoded.longest, seed=1)
    epochs = []
    for epoch in range(2):
        rows = np.concatenate([batches[2 * epoch + i].inputs.numpy() for i in range(2)])
        epochs.append(rows.tolist())
        assert len({tuple(row) for row in rows.tolist()}) == 6
    assert epochs[0] != epochs[1]
    assert (again[3].inputs == batches[3].inputs).all()  # asked for at once


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", r"chats.jsonl:2: not JSON"),
        ("[]", r"chats.jsonl:2: must be \{\"messages\""),
        ('{"prompt": "x"}', r"chats.jsonl:2: must be \{\"messages\""),
        ('{"messages": [{"role": "user", "content": "x"}]}', "chats.jsonl:2: no assistant's message"),
        ('{"messages": [{"content": "x"}]}', "chats.jsonl:2: message 1 must be"),
        ('{"messages": [{"role": "user", "content": 3}]}', "chats.jsonl:2: message 1: content must be text"),
        ('{"messages": [{"role": "user"}]}', "chats.jsonl:2: message 1: content must be text"),
        (
            '{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}',
            "chats.jsonl:2: message 1: content must be text",
        ),
        ('{"messages": [], "tools": [{}]}', "chats.jsonl:2: tools: chats with tools are not supported"),
        (
            '{"messages": [{"role": "assistant", "content": null, "tool_calls": [{}]}]}',
            "chats.jsonl:2: message 1: tool_calls: only text",
        ),
        (
            '{"messages": [{"role": "assistant", "content": "x", "weight": 0.5}]}',
            "chats.jsonl:2: message 1: weight=0.5: must be 0 or 1",
        ),
        (
            '{"messages": [{"role": "assistant", "content": "x", "weight": 0}]}',
            "chats.jsonl:2: no assistant's message to learn",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    good = json.dumps({"messages": [{"role": "assistant", "content": "x"}]})
    path = tmp_path / "chats.jsonl"
    path.write_text(f"{good}\n{line}\n{good}\n")
    with pytest.raises(DataError, match=words) as refused:
        read_chats(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe"])
def test_a_file_without_chats_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "chats.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"chats\.jsonl"):
        read_chats(path)


def test_parts_of_text_are_one_text(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    path = tmp_path / "chats.jsonl"
    path.write_text("\n" + json.dumps({"messages": [{"role": "assistant", "content": parts}], "id": 7}) + "\n")
    (found,) = read_chats(path)
    assert found.where == f"{path}:2"
    assert found.messages[0]["content"] == "ab"


def test_equal_chats_are_on_one_side() -> None:
    chats = [chat({"role": "assistant", "content": str(i % 50)}) for i in range(200)]
    training, heldout = split_chats(chats)
    sides = [{c.messages[0]["content"] for c in side} for side in (training, heldout)]
    assert len(training) + len(heldout) == 200
    assert not sides[0] & sides[1]
    assert sides[1]
    with pytest.raises(DataError, match="all chats are the same"):
        split_chats(chats[:1] * 5)


def test_a_template_without_an_end_is_refused(tokenizer: Tokenizer) -> None:
    endless = "{% for m in messages %}{{ m.content }}{% endfor %}"
    with pytest.raises(DataError, match=r"chats.jsonl:1: the chat template ends no answer with a special token"):
        encoder(tokenizer, endless)([chat(*TWO_TURNS)], max_seq_len=100)


def test_a_template_that_refuses_names_the_line(tokenizer: Tokenizer) -> None:
    strict = "{{ raise_exception('no system here') }}"
    with pytest.raises(DataError, match=r"chats.jsonl:1: the chat template refuses it \(no system here\)"):
        encoder(tokenizer, strict)([chat(*TWO_TURNS)], max_seq_len=100)
