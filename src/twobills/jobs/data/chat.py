"""Chats to learn from: OpenAI's JSONL, and which of their tokens are learned.

Every line is ``{"messages": [{"role": ..., "content": ...}, ...]}``. A chat is written as its model's template writes
it, piece by piece as it will be asked for: what comes before an answer is encoded as one text, so that its tokens are
those of a prompt, and the answer up to the special token that ends it is what the loss sees; the rest is only read.
An assistant's message with ``"weight": 0`` is read too. Where a template writes earlier answers otherwise once the
chat goes on, each answer becomes a sequence of its own. A sequence longer than the context is cut at its end, and left
out if nothing is left to learn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import TemplateError
from tokenizers import Tokenizer

from twobills.errors import DataError
from twobills.jobs.chat_template import ChatTemplate, Message
from twobills.jobs.data.batch import IGNORED, Batch
from twobills.jobs.data.codec import TokenArray

HELDOUT_EVERY = 20
"""One chat in so many is held out."""
ASSISTANT = "assistant"
_NOT_SUPPORTED = ("tools", "functions")
_NOT_SUPPORTED_IN_MESSAGE = ("tool_calls", "function_call", "audio")


class Chat(NamedTuple):
    """One conversation."""

    where: str
    """``file:line``."""
    messages: tuple[Message, ...]
    """``role`` and ``content``, and ``weight`` where it is 0."""


class Answers(NamedTuple):
    """A conversation, or a part of one, as tokens."""

    tokens: TokenArray
    learned: npt.NDArray[np.bool_]
    """True where a token is to be predicted."""

    @property
    def n_learned(self) -> int:
        """Tokens that are to be predicted; the first has nothing before it."""
        return int(self.learned[1:].sum())


class EncodedChats(NamedTuple):
    """Many conversations as tokens, none longer than the context."""

    sequences: list[Answers]
    n_cut: int
    """That were longer and lost their end."""
    n_left_out: int
    """Of which nothing was left to learn."""
    end_ids: frozenset[int]
    """Special tokens that end an answer."""

    @property
    def longest(self) -> int:
        """Tokens that are read of the longest sequence."""
        return max(len(sequence.tokens) for sequence in self.sequences) - 1


class ChatEncoder:
    """Turns chats into tokens of one model."""

    def __init__(self, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self._tokenizer, self._template = tokenizer, template
        self._special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._end_ids: set[int] = set()

    def __call__(self, chats: Sequence[Chat], *, max_seq_len: int) -> EncodedChats:
        """All chats, cut so that ``max_seq_len`` tokens are read of each. Raises DataError, naming file and line."""
        sequences, n_cut, n_left_out = list[Answers](), 0, 0
        for chat in chats:
            for sequence in self._encode(chat):
                cut = Answers(sequence.tokens[: max_seq_len + 1], sequence.learned[: max_seq_len + 1])
                if not cut.n_learned:
                    n_left_out += 1
                    continue
                n_cut += len(sequence.tokens) > len(cut.tokens)
                sequences.append(cut)
        return EncodedChats(sequences, n_cut, n_left_out, frozenset(self._end_ids))

    def _encode(self, chat: Chat) -> list[Answers]:
        turns = [i for i, message in enumerate(chat.messages) if message["role"] == ASSISTANT]
        if (whole := self._pieces(chat, turns)) is not None:
            return [whole]
        alone = [self._pieces(chat, [turn]) for turn in turns]  # the template rewrites what came before
        found = [answers for answers in alone if answers is not None]
        if len(found) < len(turns):
            raise DataError(f"{chat.where}: the chat template writes an answer otherwise than it asks for one")
        return [answers for answers in found if answers.n_learned]

    def _pieces(self, chat: Chat, turns: Sequence[int]) -> Answers | None:
        """Up to the last of ``turns``, which are learned; None if a text is not a beginning of the next one."""
        text, tokens, learned = "", list[int](), list[bool]()
        for turn in turns:
            asked = self._render(chat, turn, ask=True)
            answered = self._render(chat, turn + 1, ask=False)
            if not (asked.startswith(text) and answered.startswith(asked)):
                return None
            prompt, answer = self._ids(asked[len(text) :], chat), self._ids(answered[len(asked) :], chat)
            n_learned = self._n_learned(answer, chat) if chat.messages[turn].get("weight", 1) else 0
            tokens += prompt + answer
            learned += [False] * len(prompt) + [i < n_learned for i in range(len(answer))]
            text = answered
        return Answers(np.array(tokens, np.int32), np.array(learned, np.bool_))

    def _n_learned(self, answer: list[int], chat: Chat) -> int:
        """Tokens of an answer up to the special one that ends it."""
        end = next((i for i, token in enumerate(answer) if token in self._special), None)
        if end is None:
            raise DataError(f"{chat.where}: the chat template ends no answer with a special token of the tokenizer")
        self._end_ids.add(answer[end])
        return end + 1

    def _render(self, chat: Chat, n_messages: int, *, ask: bool) -> str:
        plain = [{"role": m["role"], "content": m["content"]} for m in chat.messages[:n_messages]]
        try:
            return self._template.render(plain, add_generation_prompt=ask)
        except TemplateError as error:
            raise DataError(f"{chat.where}: the chat template refuses it ({error})") from None

    def _ids(self, text: str, chat: Chat) -> list[int]:
        try:
            return self._tokenizer.encode(text, add_special_tokens=False).ids
        except Exception as error:  # the library raises nothing narrower
            raise DataError(f"{chat.where}: the base's tokenizer cannot write it ({error})") from None


class ChatBatches:
    """Batches of one sequence a row, shuffled anew in every epoch; a pure function of the step."""

    def __init__(self, chats: EncodedChats, *, batch_size: int, seq_len: int, seed: int) -> None:
        self._sequences, self._batch_size, self._seq_len, self._seed = chats.sequences, batch_size, seq_len, seed
        self._order: tuple[int, npt.NDArray[np.int64]] = (-1, np.empty(0, np.int64))

    def __getitem__(self, step: int) -> Batch:
        """The batch of this step."""
        rows = range(step * self._batch_size, (step + 1) * self._batch_size)
        return padded([self._sequence(row) for row in rows], self._seq_len)

    def _sequence(self, row: int) -> Answers:
        epoch, place = divmod(row, len(self._sequences))
        if self._order[0] != epoch:
            self._order = epoch, np.random.default_rng((self._seed, epoch)).permutation(len(self._sequences))
        return self._sequences[int(self._order[1][place])]


def padded(sequences: Sequence[Answers], seq_len: int) -> Batch:
    """One sequence a row; what is not learned, and the empty rest of a row, is not predicted."""
    inputs = np.zeros((len(sequences), seq_len), np.int64)
    targets = np.full((len(sequences), seq_len), IGNORED, np.int64)
    for row, (tokens, learned) in enumerate(sequences):
        n = len(tokens) - 1
        inputs[row, :n] = tokens[:-1]
        targets[row, :n] = np.where(learned[1:], tokens[1:], IGNORED)
    return Batch(torch.from_numpy(inputs), torch.from_numpy(targets))


def read_chats(path: Path) -> list[Chat]:
    """The chats of a JSONL file. Raises DataError, naming file and line, for what is none."""
    try:
        with path.open(encoding="utf-8") as file:
            chats = [_chat(line, f"{path}:{n}") for n, line in enumerate(file, 1) if line.strip()]
    except OSError as error:
        raise DataError(f"data {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"data {path}: is not UTF-8 ({error.reason} at byte {error.start})") from None
    if not chats:
        raise DataError(f'data {path}: has no chats; every line must be {{"messages": [...]}}')
    return chats


def split_chats(chats: Sequence[Chat]) -> tuple[list[Chat], list[Chat]]:
    """Training and held-out chats, by the hash of what is said: equal chats are on the same side.

    Raises DataError if there are fewer than two different ones.
    """
    keys = [_digest(chat) for chat in chats]
    heldout = {key for key in keys if key % HELDOUT_EVERY == 0}
    if not heldout or len(heldout) == len(set(keys)):
        heldout = set(sorted(set(keys))[: max(1, len(set(keys)) // HELDOUT_EVERY)])
    training = [chat for chat, key in zip(chats, keys, strict=True) if key not in heldout]
    if not training:
        raise DataError(f"{chats[0].where}: all chats are the same one; at least two different ones are needed")
    return training, [chat for chat, key in zip(chats, keys, strict=True) if key in heldout]


def _digest(chat: Chat) -> int:
    said = json.dumps(chat.messages, sort_keys=True).encode()
    return int.from_bytes(hashlib.sha256(said).digest(), "big")


def _chat(line: str, where: str) -> Chat:
    try:
        document = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg} at column {error.colno})") from None
    if not isinstance(document, dict) or not isinstance(document.get("messages"), list):
        raise DataError(f'{where}: must be {{"messages": [...]}}')
    if found := [key for key in _NOT_SUPPORTED if document.get(key)]:
        raise DataError(f"{where}: {found[0]}: chats with tools are not supported")
    messages = tuple(_messages(document["messages"], where))
    if not any(m["role"] == ASSISTANT and m.get("weight", 1) for m in messages):
        raise DataError(f"{where}: no assistant's message to learn")
    return Chat(where, messages)


def _messages(messages: Sequence[Any], where: str) -> Iterator[Message]:
    for n, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise DataError(f'{where}: message {n} must be {{"role": ..., "content": ...}}')
        if found := [key for key in _NOT_SUPPORTED_IN_MESSAGE if message.get(key)]:
            raise DataError(f"{where}: message {n}: {found[0]}: only text is supported")
        weight = message.get("weight", 1)
        if weight not in (0, 1):
            raise DataError(f"{where}: message {n}: weight={weight!r}: must be 0 or 1")
        yield {"role": message["role"], "content": _text(message, f"{where}: message {n}"), "weight": weight}


def _text(message: Mapping[str, Any], where: str) -> str:
    content = message.get("content")
    if isinstance(content, list):
        parts = [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
        content = "".join(parts) if len(parts) == len(content) else None
    if not isinstance(content, str):
        raise DataError(f"{where}: content must be text")
    return content
