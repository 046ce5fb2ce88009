"""A load of requests on any OpenAI-compatible server: so many clients at once, each waiting for its answer.

Speaks the protocol as any client would, over HTTP and streamed, and takes the times on the client's side: time to
first token is from sending the request to the first piece of text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

import httpx

from twobills.errors import ServerError
from twobills.meter.clock import Clock, monotonic
from twobills.serving.metrics import percentiles

_TIMEOUT_S = 120.0


class Answer(NamedTuple):
    """What one request came back with."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    ttft_s: float | None
    """Seconds to the first piece of text; None if none came."""
    e2e_s: float
    error: str | None
    """Why it failed, None if it did not."""


class LoadResult(NamedTuple):
    """All answers, in the order of the prompts, and how long it took."""

    answers: list[Answer]
    wall_s: float
    concurrency: int

    @property
    def n_ok(self) -> int:
        """Requests that were answered."""
        return sum(answer.error is None for answer in self.answers)

    def to_json(self) -> dict[str, Any]:
        """Counts, rates and percentiles as plain JSON."""
        ok = [answer for answer in self.answers if answer.error is None]
        completion_tokens = sum(answer.completion_tokens for answer in ok)
        return {
            "sent": len(self.answers),
            "ok": len(ok),
            "failed": len(self.answers) - len(ok),
            "concurrency": self.concurrency,
            "prompt_tokens": sum(answer.prompt_tokens for answer in ok),
            "completion_tokens": completion_tokens,
            "wall_s": self.wall_s,
            "output_tokens_per_s": completion_tokens / self.wall_s,
            "ttft_s": _percentiles([answer.ttft_s for answer in ok if answer.ttft_s is not None]),
            "e2e_s": _percentiles([answer.e2e_s for answer in ok]),
            "errors": sorted({answer.error for answer in self.answers if answer.error}),
        }


def send_load(
    url: str,
    prompts: Sequence[str],
    *,
    concurrency: int,
    max_tokens: int,
    temperature: float,
    on_answer: Callable[[int], None],
    clock: Clock = monotonic,
) -> LoadResult:
    """Sends every prompt as a streamed completion and waits for all answers; ``on_answer`` hears how many are back."""
    return asyncio.run(_send_all(url, prompts, concurrency, max_tokens, temperature, on_answer, clock))


class _Client:
    """One load on one server."""

    def __init__(self, http: httpx.AsyncClient, model: str, max_tokens: int, temperature: float, clock: Clock) -> None:
        self._http, self._clock = http, clock
        self._request = {
            "model": model,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def ask(self, index: int, prompt: str) -> Answer:
        """One request and its whole answer; a failure is an answer too."""
        start_s = self._clock()
        answer = Answer("", 0, 0, None, 0.0, None)
        try:
            body = {**self._request, "prompt": prompt, "seed": index}
            async with self._http.stream("POST", "/v1/completions", json=body) as response:
                if response.status_code == httpx.codes.OK:
                    answer = await self._read(response, start_s)
                else:
                    await response.aread()
                    answer = answer._replace(error=f"HTTP {response.status_code}: {response.text}")
        except httpx.HTTPError as failure:
            answer = answer._replace(error=f"{type(failure).__name__}: {failure}")
        return answer._replace(e2e_s=self._clock() - start_s)

    async def _read(self, response: httpx.Response, start_s: float) -> Answer:
        pieces: list[str] = []
        first_s, error = None, None
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        async for line in _lines(response):
            if not line.startswith(b"data: {"):
                continue
            chunk = json.loads(line.removeprefix(b"data: "))
            error = chunk["error"]["message"] if "error" in chunk else error
            piece = "".join(choice["text"] for choice in chunk.get("choices", ()))
            if piece and first_s is None:
                first_s = self._clock() - start_s
            pieces.append(piece)
            usage = chunk.get("usage") or usage
        return Answer("".join(pieces), usage["prompt_tokens"], usage["completion_tokens"], first_s, 0.0, error)


async def _send_all(
    url: str,
    prompts: Sequence[str],
    concurrency: int,
    max_tokens: int,
    temperature: float,
    on_answer: Callable[[int], None],
    clock: Clock,
) -> LoadResult:
    answers: dict[int, Answer] = {}
    waiting = iter(enumerate(prompts))
    start_s = clock()
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, trust_env=False) as http:
        model = await _served_model(http, url)
        client = _Client(http, model, max_tokens, temperature, clock)

        async def keep_asking() -> None:
            for index, prompt in waiting:
                answers[index] = await client.ask(index, prompt)
                on_answer(len(answers))

        await asyncio.gather(*(keep_asking() for _ in range(concurrency)))
    return LoadResult([answers[i] for i in sorted(answers)], clock() - start_s, concurrency)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Lines as server-sent events end them, by line feed alone: text may hold other separators of lines."""
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line


async def _served_model(http: httpx.AsyncClient, url: str) -> str:
    """The name of the model that is served. Raises ServerError if there is no such server."""
    try:
        return str((await http.get("/v1/models")).raise_for_status().json()["data"][0]["id"])
    except (httpx.HTTPError, ValueError, KeyError, IndexError) as error:
        raise ServerError(f"{url}: does not answer as an OpenAI-compatible server ({type(error).__name__})") from None


def _percentiles(values: list[float]) -> dict[str, float] | None:
    found = percentiles(values)
    return found._asdict() if found else None
