"""The load generator against answers of every kind, without a server."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from twobills.errors import ServerError
from twobills.flows.adapters import openai_load
from twobills.flows.adapters.openai_load import Answer, send_load

ODD = "line\u2028feed\x85and\x1cmore \x0b"


def answer_to(handler: httpx.MockTransport) -> Answer:
    async def ask() -> Answer:
        async with httpx.AsyncClient(transport=handler, base_url="http://test") as http:
            clock = iter(range(100))
            client = openai_load._Client(http, "model", 8, 0.0, lambda: float(next(clock)))
            return await client.ask(0, "prompt")

    return asyncio.run(ask())


def event(document: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(document, ensure_ascii=False).encode() + b"\n\n"


def test_text_may_hold_any_separator_of_lines() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    body = event({"choices": [{"text": ODD}]}) + event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n"
    answer = answer_to(httpx.MockTransport(lambda _: httpx.Response(200, content=body)))
    assert answer.text == ODD
    assert (answer.prompt_tokens, answer.completion_tokens) == (3, 2)
    assert answer.error is None
    assert answer.ttft_s is not None
    assert answer.ttft_s <= answer.e2e_s


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (httpx.Response(400, json={"error": {"message": "too long"}}), "HTTP 400"),
        (httpx.Response(200, content=event({"error": {"message": "the engine failed"}})), "the engine failed"),
    ],
)
def test_a_failure_is_an_answer_too(response: httpx.Response, error: str) -> None:
    answer = answer_to(httpx.MockTransport(lambda _: response))
    assert error in (answer.error or "")


def test_a_lost_connection_is_an_answer_too() -> None:
    def lose(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("gone")

    assert answer_to(httpx.MockTransport(lose)).error == "ConnectError: gone"


def test_no_server_is_one_line() -> None:
    with pytest.raises(ServerError, match="does not answer as an OpenAI-compatible server"):
        send_load("http://127.0.0.1:1", ["x"], concurrency=1, max_tokens=1, temperature=0, on_answer=lambda _: None)
