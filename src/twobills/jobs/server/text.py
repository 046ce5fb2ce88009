"""From tokens to text as they come: whole characters only, and nothing a stop string may take back.

A token can end in the middle of a character, so text is held until it is whole. Text that could be the
beginning of a stop string is held too, until it is one (and is dropped, with everything after it) or cannot
be any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """One answer's text: feed it tokens, send what it gives; ``stopped`` says a stop string came."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stop = tuple(s for s in stop if s)
        self._tokens: list[int] = []
        self._n_decoded = 0
        self._held = ""
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Text that is certain now that this token came, often none."""
        self._tokens.append(token_id)
        piece: str | None = self._decoder.step(self._tokenizer, token_id)
        if not piece:
            return ""
        self._n_decoded = len(self._tokens)
        return self._release(piece)

    def flush(self) -> str:
        """What is still held, at the answer's end; an unfinished character becomes the replacement sign."""
        if self.stopped:
            return ""
        tail = self._tokenizer.decode(self._tokens[self._n_decoded :], skip_special_tokens=True)
        return self._release(tail) + self._take_held() if not self.stopped else ""

    def _release(self, piece: str) -> str:
        self._held += piece
        found = [at for stop in self._stop if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)], ""
            return text
        n_sure = len(self._held) - max((_overlap(self._held, stop) for stop in self._stop), default=0)
        text, self._held = self._held[:n_sure], self._held[n_sure:]
        return text

    def _take_held(self) -> str:
        text, self._held = self._held, ""
        return text


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters of ``text`` are the first of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
