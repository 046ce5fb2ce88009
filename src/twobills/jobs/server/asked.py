"""From a decoded HTTP request to engine requests: prompts as tokens, limits checked, parameters filled in.

OpenAI's defaults: temperature 1, 16 tokens for a completion; a chat may fill the context. ``n`` answers to
one prompt are separate requests with seeds one apart; each computes the prompt again.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple
from uuid import uuid4

from twobills.errors import RequestError, SpecError
from twobills.jobs.inference.prompts import encode_prompt
from twobills.jobs.server.chat import ChatTemplate
from twobills.jobs.server.loop import Answer, EngineLoop, Event
from twobills.jobs.server.protocol import ApiError, ChatRequest, CompletionRequest
from twobills.jobs.server.text import TextStream
from twobills.serving.request import Request, SamplingParams

_COMPLETION_TOKENS = 16
_MOST_ANSWERS = 128


class Wanted(NamedTuple):
    """All answers that one HTTP request wants."""

    id: str
    answers: list[Answer]
    events: asyncio.Queue[Event]
    n_prompt_tokens: int
    """Of all prompts, each counted once."""


def wanted(asked: CompletionRequest | ChatRequest, loop: EngineLoop, template: ChatTemplate) -> Wanted:
    """The answers to make. Raises ApiError for what cannot be."""
    chat = isinstance(asked, ChatRequest)
    prompts = [_chat_tokens(asked, loop, template)] if isinstance(asked, ChatRequest) else _prompts(asked, loop)
    n = 1 if asked.n is None else asked.n
    if not 1 <= n <= _MOST_ANSWERS:
        raise ApiError(f"n={n}: must be between 1 and {_MOST_ANSWERS}", param="n")
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
    request_id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid4().hex}"
    events: asyncio.Queue[Event] = asyncio.Queue()
    answers = []
    for index, prompt in enumerate(prompt for prompt in prompts for _ in range(n)):
        request = Request(
            id=f"{request_id}-{index}",
            prompt_token_ids=tuple(prompt),
            params=_params(asked, len(prompt), loop, index % n),
            arrival_s=loop.engine.clock(),
        )
        answers.append(Answer(request, TextStream(loop.tokenizer, stop), index, events))
    return Wanted(request_id, answers, events, sum(map(len, prompts)))


def _chat_tokens(asked: ChatRequest, loop: EngineLoop, template: ChatTemplate) -> list[int]:
    if not asked.messages:
        raise ApiError("messages: must hold at least one message", param="messages")
    text = template.render(asked.messages)
    return _checked(_encoded(text, loop, "messages", add_special_tokens=False), loop, "messages")


def _prompts(asked: CompletionRequest, loop: EngineLoop) -> list[list[int]]:
    """One list of tokens per prompt, from any of the four forms that OpenAI allows."""
    given: list[str | int | list[int]] = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    tokens = [token for token in given if isinstance(token, int)]
    texts = [part for part in given if not isinstance(part, int)]
    if tokens and texts:
        raise ApiError("prompt: must hold either token ids or prompts, not both", param="prompt")
    parts: list[str | list[int]] = texts or [tokens]
    ids = [_encoded(part, loop, "prompt") if isinstance(part, str) else part for part in parts]
    return [_checked(prompt, loop, "prompt") for prompt in ids]


def _encoded(text: str, loop: EngineLoop, param: str, *, add_special_tokens: bool = True) -> list[int]:
    try:
        return encode_prompt(loop.tokenizer, text, add_special_tokens=add_special_tokens)
    except RequestError as error:
        raise ApiError(str(error), param=param) from None


def _checked(tokens: list[int], loop: EngineLoop, param: str) -> list[int]:
    vocab_size = loop.engine.loaded.spec.vocab_size
    if not tokens:
        raise ApiError(f"{param}: must hold at least one token", param=param)
    if min(tokens) < 0 or max(tokens) >= vocab_size:
        raise ApiError(f"{param}: token ids must be between 0 and {vocab_size - 1}", param=param)
    return tokens


def _params(asked: CompletionRequest | ChatRequest, n_prompt: int, loop: EngineLoop, nth: int) -> SamplingParams:
    """Sampling parameters, with a seed of its own for the nth answer to a prompt."""
    room = loop.engine.spec.max_context_len - n_prompt
    max_tokens = asked.max_tokens
    if isinstance(asked, ChatRequest):
        if asked.max_completion_tokens is not None:
            max_tokens = asked.max_completion_tokens
        max_tokens = room if max_tokens is None else max_tokens
    elif max_tokens is None:
        max_tokens = _COMPLETION_TOKENS
    if max_tokens > room or room < 1:
        raise ApiError(
            f"this model's context is {loop.engine.spec.max_context_len} tokens; {n_prompt} in the prompt "
            f"and {max(max_tokens, 1)} to generate do not fit",
            param="messages" if isinstance(asked, ChatRequest) else "prompt",
            code="context_length_exceeded",
        )
    try:
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=1.0 if asked.temperature is None else asked.temperature,
            top_p=1.0 if asked.top_p is None else asked.top_p,
            top_k=max(asked.top_k or 0, 0),  # vLLM's clients say -1 for all
            seed=None if asked.seed is None else asked.seed + nth,
            stop_token_ids=frozenset(asked.stop_token_ids or ()),
            ignore_eos=asked.ignore_eos,
        )
    except SpecError as error:
        raise ApiError(str(error), param=str(error).split("=")[0]) from None
