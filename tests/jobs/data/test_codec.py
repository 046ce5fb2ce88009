"""Codecs: nothing is lost, whatever the bytes, and what the folder keeps does what the codec does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from twobills.errors import DataError
from twobills.jobs.data.codec import (
    END_OF_TEXT,
    BytesCodec,
    Codec,
    Document,
    TextCodec,
    codec_digest,
    read_tokenizer,
    train_tokenizer,
)

TEXT = "def greet(name):\n    return 'hello ' + name\n\n\nfor word in greet('world').split():\n    print(word)\n"
TEXT_CODEC = TextCodec(train_tokenizer([TEXT] * 10, 320))
BYTES_CODEC = BytesCodec()


@given(st.binary(max_size=300))
def test_bytes_come_back_from_their_tokens_and_through_the_saved_tokenizer(content: bytes) -> None:
    (tokens,) = BYTES_CODEC.encode([Document("x", content)])
    assert tokens[0] == BYTES_CODEC.end_id
    assert bytes(int(token) - 1 for token in tokens[1:]) == content
    text = content.decode("latin-1")
    plain = Tokenizer.from_str(BYTES_CODEC.tokenizer.to_str())
    assert plain.decode(tokens.tolist()) == text
    if END_OF_TEXT not in text:
        assert plain.encode(text).ids == tokens[1:].tolist()


@given(st.binary(max_size=300))
def test_any_bytes_come_back_from_text_tokens(content: bytes) -> None:
    (tokens,) = TEXT_CODEC.encode([Document("x", content)])
    text = TEXT_CODEC.tokenizer.decode(tokens.tolist())
    assert content in (text.encode("utf-8"), text.encode("latin-1", errors="replace"))


def test_bytes_stream_out_one_by_one() -> None:
    stream = DecodeStream(skip_special_tokens=True)
    content = bytes(range(256))
    (tokens,) = BYTES_CODEC.encode([Document("x", content)])
    pieces = [stream.step(BYTES_CODEC.tokenizer, int(token)) or "" for token in tokens]
    assert "".join(pieces).encode("latin-1") == content


def test_what_is_no_byte_reads_as_a_question_mark() -> None:
    assert BYTES_CODEC.tokenizer.encode("a窓b").ids == BYTES_CODEC.tokenizer.encode("a?b").ids


@pytest.mark.parametrize("codec", [TEXT_CODEC, BYTES_CODEC])
def test_a_text_that_speaks_of_the_end_does_not_end_there(codec: Codec) -> None:
    (tokens,) = codec.encode([Document("x", b"the token <|end|> ends a text")])
    assert tokens.tolist().count(codec.end_id) == 1
    assert tokens.max() < codec.vocab_size


def test_documents_keep_their_order_and_groups_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    documents = [Document(str(i), f"number {i}\n".encode() * (i % 5)) for i in range(40)]
    whole = [tokens.tolist() for tokens in TEXT_CODEC.encode(documents)]
    monkeypatch.setattr("twobills.jobs.data.codec.ENCODE_AT_ONCE_BYTES", 25)
    assert [tokens.tolist() for tokens in TEXT_CODEC.encode(iter(documents))] == whole
    assert len(whole) == 40


def test_the_digest_names_the_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    TEXT_CODEC.tokenizer.save(str(path))
    assert codec_digest(TextCodec(read_tokenizer(path))) == codec_digest(TEXT_CODEC)
    assert codec_digest(TextCodec(train_tokenizer([TEXT], 300))) != codec_digest(TEXT_CODEC)
    assert codec_digest(BYTES_CODEC) != codec_digest(TEXT_CODEC)
    BYTES_CODEC.tokenizer.save(str(path))
    assert read_tokenizer(path).to_str() == BYTES_CODEC.tokenizer.to_str()


def test_the_byte_tokenizer_opens_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    BYTES_CODEC.tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END_OF_TEXT, "bos_token": END_OF_TEXT}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "clean_up_tokenization_spaces": False}))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    content = np.random.default_rng(0).bytes(500)
    ids = theirs(content.decode("latin-1"))["input_ids"]
    assert [i - 1 for i in ids] == list(content)
    assert theirs.decode(ids).encode("latin-1") == content
    assert len(theirs) == 257


def test_a_file_that_is_no_tokenizer_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer\.json: is not a tokenizer"):
        read_tokenizer(path)
    with pytest.raises(DataError, match="has no token"):
        TextCodec(Tokenizer.from_str(train_tokenizer([TEXT], 300).to_str().replace(END_OF_TEXT, "<eos>")))
