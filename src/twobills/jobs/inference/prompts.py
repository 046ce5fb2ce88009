"""A prompt as a model's tokens, with one clear line where a text has none.

A vocabulary of byte pairs writes anything; one of words, as models of images have, knows its own words only.
"""

from __future__ import annotations

from tokenizers import Tokenizer

from twobills.errors import RequestError

_N_EXAMPLES = 4


def encode_prompt(tokenizer: Tokenizer, text: str, *, add_special_tokens: bool = True) -> list[int]:
    """The tokens of a text. Raises RequestError naming the part of it that is none."""
    try:
        return tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
    except Exception as error:  # the library raises nothing narrower
        raise RequestError(f"prompt: {_unknown(tokenizer, text) or error}") from None


def _unknown(tokenizer: Tokenizer, text: str) -> str | None:
    pieces = [text]
    if tokenizer.pre_tokenizer is not None:
        pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    unknown = next((piece for piece in pieces if tokenizer.token_to_id(piece) is None), None)
    if unknown is None:
        return None
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    known = ", ".join(word for word, _ in [*words[1:_N_EXAMPLES], words[-1]])
    return f"{unknown[:40]!r} is none of this model's {len(words)} words, such as {known}"
