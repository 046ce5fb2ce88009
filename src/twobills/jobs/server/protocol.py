"""OpenAI's messages as types: what clients send, what they get back, how they are told no.

Unknown fields are accepted, as OpenAI-compatible servers do; known ones that this server does not implement
are refused by name unless they hold their neutral value, so nothing that was asked for is silently left
out.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from twobills.errors import RequestError


class ApiError(RequestError):
    """A request that gets an error in OpenAI's shape."""

    def __init__(self, message: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code

    def body(self) -> bytes:
        """The JSON that the client gets."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})


class StreamOptions(Struct):
    """What a stream carries besides text."""

    include_usage: bool = False


class _Asked(Struct, kw_only=True):
    """What both endpoints take. ``Any`` marks what is only accepted at its neutral value."""

    model: str
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    stream: bool = False
    stream_options: StreamOptions | None = None
    logprobs: Any = None
    top_logprobs: Any = None
    logit_bias: Any = None
    presence_penalty: Any = None
    frequency_penalty: Any = None
    repetition_penalty: Any = None
    min_p: Any = None
    min_tokens: Any = None
    best_of: Any = None
    echo: Any = None
    suffix: Any = None
    tools: Any = None
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None
    modalities: Any = None
    audio: Any = None


class CompletionRequest(_Asked, kw_only=True):
    """POST /v1/completions."""

    prompt: str | list[str | int | list[int]]
    """Text, texts, token ids, or several lists of them."""


class TextPart(Struct, kw_only=True):
    """One part of a message's content; only text is understood."""

    type: str
    text: str = ""


class ChatMessage(Struct, kw_only=True):
    """One message of a chat."""

    role: str
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """The content as one string. Raises ApiError for a part that is not text."""
        if not isinstance(self.content, list):
            return self.content or ""
        if other := next((part.type for part in self.content if part.type != "text"), None):
            raise ApiError(f"content part of type {other!r}: only text is supported", param="messages")
        return "".join(part.text for part in self.content)


class ChatRequest(_Asked, kw_only=True):
    """POST /v1/chat/completions."""

    messages: list[ChatMessage]
    max_completion_tokens: int | None = None


class PromptDetails(Struct):
    """Of the prompt's tokens."""

    cached_tokens: int = 0


class CompletionDetails(Struct):
    """Of the answer's tokens."""

    reasoning_tokens: int = 0


class TokenUsage(Struct, kw_only=True):
    """How many tokens a request took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails = msgspec.field(default_factory=PromptDetails)
    completion_tokens_details: CompletionDetails = msgspec.field(default_factory=CompletionDetails)


class RequestBill(Struct, kw_only=True):
    """What the request used, beside ``usage``: its share of each engine step by executed FLOPs."""

    flops: float
    chip_s: float
    usd: float | None
    attributed: bool = True


class Delta(Struct, omit_defaults=True):
    """What a chat chunk adds."""

    role: str | None = None
    content: str | None = None


class Message(Struct):
    """A whole chat answer."""

    role: str
    content: str


class Choice(Struct, kw_only=True):
    """One answer, or a chunk of one: ``text`` in completions, ``message`` or ``delta`` in chats."""

    index: int
    text: str | UnsetType = UNSET
    message: Message | UnsetType = UNSET
    delta: Delta | UnsetType = UNSET
    logprobs: None = None
    finish_reason: str | None = None


class Reply(Struct, kw_only=True):
    """A whole reply, or one chunk of a stream."""

    id: str
    object: str
    created: int
    model: str
    choices: list[Choice]
    usage: TokenUsage | UnsetType | None = UNSET
    twobills: RequestBill | UnsetType | None = UNSET


_NEUTRAL: dict[str, tuple[object, ...]] = {
    "logprobs": (False,), "top_logprobs": (0,), "logit_bias": ({},), "presence_penalty": (0,),
    "frequency_penalty": (0,), "repetition_penalty": (1,), "min_p": (0,), "min_tokens": (0,), "best_of": (1,),
    "echo": (False,), "suffix": ("",), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],),
    "function_call": ("none", "auto"), "response_format": ({"type": "text"},),
    "modalities": (["text"],), "audio": (),
}  # fmt: skip

AskedT = TypeVar("AskedT", bound=_Asked)


def decode(body: bytes, kind: type[AskedT]) -> AskedT:
    """The request in a body. Raises ApiError, naming the field, for what is malformed or not implemented."""
    try:
        asked = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ApiError(str(error), param=_field(str(error))) from None
    except msgspec.DecodeError as error:
        raise ApiError(f"the body is not JSON: {error}") from None
    for name, neutral in _NEUTRAL.items():
        value = getattr(asked, name)
        if value is None or any(value == n and isinstance(value, bool) == isinstance(n, bool) for n in neutral):
            continue
        raise ApiError(f"{name}: not supported by this server; leave it out", param=name, code="unsupported_parameter")
    return asked


def _field(message: str) -> str | None:
    """The field in msgspec's ``... - at `$.stop[0]` `` or ``missing required field `model` ``."""
    match = re.search(r"\$\.(\w+)", message) or re.search(r"required field `(\w+)`", message)
    return match[1] if match else None
