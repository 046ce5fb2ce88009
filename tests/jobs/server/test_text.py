"""Text as it comes: whole characters, stop strings held back."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from twobills.jobs.server.text import TextStream


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token per byte."""
    vocab = {sign: i for i, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    built = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens(["<|end|>"])
    return built


def pieces(tokenizer: Tokenizer, text: str, *stop: str) -> tuple[list[str], TextStream]:
    stream = TextStream(tokenizer, stop)
    out = []
    for token in tokenizer.encode(text).ids:
        out.append(stream.push(token))
        if stream.stopped:
            break
    return out, stream


def test_characters_come_whole(tokenizer: Tokenizer) -> None:
    out, stream = pieces(tokenizer, "aé€b")
    assert out == ["a", "", "é", "", "", "€", "b"]
    assert stream.flush() == ""


def test_an_unfinished_character_is_shown_as_such_at_the_end(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    tokens = tokenizer.encode("x€").ids
    assert "".join(stream.push(token) for token in tokens[:-1]) + stream.flush() == "x\ufffd"


def test_special_tokens_are_not_text(tokenizer: Tokenizer) -> None:
    out, stream = pieces(tokenizer, "ab<|end|>")
    assert "".join(out) + stream.flush() == "ab"


def test_nothing_of_a_stop_string_is_ever_sent(tokenizer: Tokenizer) -> None:
    out, stream = pieces(tokenizer, "def f():\n\n\nmore", "\n\n\n", "zzz")
    assert "".join(out) == "def f():"
    assert stream.stopped
    assert stream.flush() == ""


def test_what_turns_out_not_to_be_one_is_sent_later(tokenizer: Tokenizer) -> None:
    out, stream = pieces(tokenizer, "aabaabX", "aabaac")
    assert out[:6] == [""] * 5 + ["aab"]
    assert "".join(out) + stream.flush() == "aabaabX"
    out, stream = pieces(tokenizer, "xST", "STOP")
    assert out == ["x", "", ""]
    assert stream.flush() == "ST"


def test_the_earliest_stop_string_wins(tokenizer: Tokenizer) -> None:
    out, _ = pieces(tokenizer, "one two three", "three", "wo")
    assert "".join(out) == "one t"
