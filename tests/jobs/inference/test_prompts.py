"""Prompts as tokens, and the line that says which part of one is none."""

from __future__ import annotations

import pytest

from twobills.errors import RequestError
from twobills.jobs.data.codec import BytesCodec
from twobills.jobs.data.raster import RasterCodec
from twobills.jobs.inference.prompts import encode_prompt

IMAGES = RasterCodec((2, 2, 1), 16, ("cat", "big dog")).tokenizer


def test_a_class_is_a_prompt_and_begins_with_the_end_of_what_was_before() -> None:
    assert encode_prompt(IMAGES, "<class big dog>") == [0, 2]
    assert encode_prompt(IMAGES, "<class big dog>", add_special_tokens=False) == [2]
    assert encode_prompt(BytesCodec().tokenizer, "ab") == [98, 99]


@pytest.mark.parametrize(
    ("text", "piece"), [("a dog", "'a'"), ("<class cow>", "'<class cow>'"), ("<class cat> 7", "'7'")]
)
def test_what_is_no_word_is_named(text: str, piece: str) -> None:
    with pytest.raises(RequestError) as raised:
        encode_prompt(IMAGES, text)
    message = str(raised.value)
    assert message.startswith(f"prompt: {piece} is none of this model's 19 words, such as <class cat>, ")
    assert message.endswith("<p15>")
