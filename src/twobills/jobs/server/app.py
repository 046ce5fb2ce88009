"""The HTTP routes: OpenAI's, the usual health, version and metrics, and the meter's own reading.

Bodies are msgspec's from end to end; a stream is plain server-sent events. A client that leaves takes its
requests with it. Beside ``usage`` stands ``twobills``: the FLOPs, chip-seconds and dollars attributed to
the request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from twobills import __version__
from twobills.errors import ServerError
from twobills.jobs.server.asked import Wanted, wanted
from twobills.jobs.server.chat import ChatTemplate
from twobills.jobs.server.loop import EngineLoop, Event, Price
from twobills.jobs.server.protocol import (
    ApiError,
    ChatRequest,
    Choice,
    CompletionRequest,
    Delta,
    Message,
    Reply,
    RequestBill,
    TokenUsage,
    decode,
)

_encode = msgspec.json.encode


def create_app(engine_loop: EngineLoop, model_name: str, price: Price | None = None) -> FastAPI:
    """The server for one model, which runs the engine's thread. ``price`` turns a usage into dollars."""
    template = ChatTemplate(engine_loop.engine.loaded.folder)
    engine_loop.metrics.open(model_name, price)
    created = int(time.time())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        engine_loop.start()
        try:
            yield
        finally:
            await asyncio.to_thread(engine_loop.stop)

    app = FastAPI(title="twobills", version=__version__, lifespan=lifespan)

    @app.exception_handler(ApiError)
    async def refuse(_: Request, error: ApiError) -> Response:
        return Response(error.body(), status_code=error.status, media_type="application/json")

    @app.exception_handler(ServerError)
    async def fail(_: Request, error: ServerError) -> Response:
        return Response(ApiError(str(error), status=503).body(), status_code=503, media_type="application/json")

    async def answer(http: Request, kind: type[CompletionRequest] | type[ChatRequest]) -> Response:
        asked: CompletionRequest | ChatRequest = decode(await http.body(), kind)
        if asked.model != model_name:
            raise _unknown_model(asked.model, model_name)
        if engine_loop.failure:
            raise ApiError(f"the engine failed: {engine_loop.failure}", status=500)
        want = await asyncio.to_thread(wanted, asked, engine_loop, template)  # a long prompt must not stall the others
        conversation = _Conversation(engine_loop, asked, want, price)
        if asked.stream:
            return StreamingResponse(conversation.stream(), media_type="text/event-stream")
        return _json(await conversation.whole(http))

    @app.post("/v1/completions")
    async def completions(http: Request) -> Response:
        return await answer(http, CompletionRequest)

    @app.post("/v1/chat/completions")
    async def chat_completions(http: Request) -> Response:
        return await answer(http, ChatRequest)

    card = {
        "id": model_name,
        "object": "model",
        "created": created,
        "owned_by": "twobills",
        "max_model_len": engine_loop.engine.spec.max_context_len,
        "digest": engine_loop.engine.loaded.digest,
    }

    @app.get("/v1/models")
    async def models() -> Response:
        return _json({"object": "list", "data": [card]})

    @app.get("/v1/models/{name}")
    async def model(name: str) -> Response:
        if name != model_name:
            raise _unknown_model(name, model_name)
        return _json(card)

    @app.get("/health")
    async def health() -> Response:
        return Response(status_code=503 if engine_loop.failure else 200, content=engine_loop.failure or "")

    @app.get("/version")
    async def version() -> Response:
        return _json({"version": __version__})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(engine_loop.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/twobills/usage")
    async def usage() -> Response:
        if engine_loop.meter is None:
            return _json({"usage": None, "reason": "this server runs without a meter"})
        return _json(engine_loop.meter.usage().to_json())

    return app


class _Conversation:
    """One HTTP request being answered, whole or as a stream."""

    def __init__(
        self,
        loop: EngineLoop,
        asked: CompletionRequest | ChatRequest,
        want: Wanted,
        price: Price | None,
    ) -> None:
        self._loop, self._want, self._price = loop, want, price
        self._model, self._chat = asked.model, isinstance(asked, ChatRequest)
        self._include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        self._unfinished = {answer.index for answer in want.answers}
        self._n_completion_tokens = 0
        self._bill: RequestBill | None = None
        self._created = int(time.time())

    async def whole(self, http: Request) -> Reply:
        """The reply once all answers are there. Raises ApiError if the engine could not."""
        texts = dict.fromkeys(self._unfinished, "")
        reasons: dict[int, str] = {}
        gone = asyncio.ensure_future(_disconnection(http))
        try:
            self._loop.submit(self._want.answers)
            while self._unfinished:
                event = await _next_event(self._want.events, gone)
                if event is None:
                    raise ApiError("the client left", status=499)
                if event.error:
                    raise ApiError(event.error, status=500)
                texts[event.index] += event.text
                if self._take(event):
                    reasons[event.index] = str(event.finish_reason)
        finally:
            gone.cancel()
            self._leave()
        reply = self._reply([self._choice(index, texts[index], reasons[index]) for index in sorted(texts)])
        reply.usage, reply.twobills = self._usage(), self._bill or msgspec.UNSET
        return reply

    async def stream(self) -> AsyncIterator[bytes]:
        """Server-sent events, up to and with ``[DONE]``."""
        try:
            self._loop.submit(self._want.answers)
            if self._chat:
                for answer in self._want.answers:
                    role = Delta(role="assistant", content="")
                    yield self._chunk([Choice(index=answer.index, delta=role)])
            while self._unfinished:
                event = await self._want.events.get()
                if event.error:
                    yield b"data: " + ApiError(event.error, status=500).body() + b"\n\n"
                    break
                finished = self._take(event)
                if event.text or not self._chat:
                    reason = str(event.finish_reason) if finished and not self._chat else None
                    yield self._chunk([self._piece(event.index, event.text, reason)], last=bool(reason))
                if finished and self._chat:
                    end = Choice(index=event.index, delta=Delta(), finish_reason=str(event.finish_reason))
                    yield self._chunk([end], last=True)
            else:
                if self._include_usage:
                    reply = self._reply([], chunk=True)
                    reply.usage, reply.twobills = self._usage(), self._bill or msgspec.UNSET
                    yield _sse(reply)
            yield b"data: [DONE]\n\n"
        finally:
            self._leave()

    def _take(self, event: Event) -> bool:
        """Books an event; whether it ends its answer."""
        if event.finish_reason is None:
            return False
        self._unfinished.discard(event.index)
        self._n_completion_tokens += event.n_tokens
        if event.usage:
            total = event.usage.total
            bill = self._bill or RequestBill(flops=0.0, chip_s=0.0, usd=0.0 if self._price else None)
            bill.flops += total.flops
            bill.chip_s += total.chip_s
            if self._price and bill.usd is not None:
                bill.usd += self._price(event.usage)
            self._bill = bill
        return True

    def _leave(self) -> None:
        self._loop.leave(a.request.id for a in self._want.answers if a.index in self._unfinished)

    def _usage(self) -> TokenUsage:
        n_prompt, n_completion = self._want.n_prompt_tokens, self._n_completion_tokens
        return TokenUsage(prompt_tokens=n_prompt, completion_tokens=n_completion, total_tokens=n_prompt + n_completion)

    def _choice(self, index: int, text: str, reason: str) -> Choice:
        if self._chat:
            return Choice(index=index, message=Message("assistant", text), finish_reason=reason)
        return Choice(index=index, text=text, finish_reason=reason)

    def _piece(self, index: int, text: str, reason: str | None) -> Choice:
        if self._chat:
            return Choice(index=index, delta=Delta(content=text))
        return Choice(index=index, text=text, finish_reason=reason)

    def _chunk(self, choices: list[Choice], *, last: bool = False) -> bytes:
        reply = self._reply(choices, chunk=True)
        if self._include_usage:
            reply.usage = None
        elif last and not self._unfinished and self._bill:
            reply.twobills = self._bill
        return _sse(reply)

    def _reply(self, choices: list[Choice], *, chunk: bool = False) -> Reply:
        kind = ("chat.completion.chunk" if chunk else "chat.completion") if self._chat else "text_completion"
        return Reply(id=self._want.id, object=kind, created=self._created, model=self._model, choices=choices)


async def _next_event(events: asyncio.Queue[Event], gone: asyncio.Future[None]) -> Event | None:
    """The next event, or None once the client has left."""
    coming = asyncio.ensure_future(events.get())
    try:
        either: set[asyncio.Future[Any]] = {coming, gone}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return coming.result() if coming.done() else None
    finally:
        coming.cancel()


async def _disconnection(http: Request) -> None:
    """Returns when the client has left; its body must have been read."""
    while (await http.receive())["type"] != "http.disconnect":
        pass


def _unknown_model(name: str | None, served: str) -> ApiError:
    return ApiError(
        f"model {name!r} is not served here; {served!r} is", status=404, param="model", code="model_not_found"
    )


def _json(document: object) -> Response:
    return Response(_encode(document), media_type="application/json")


def _sse(reply: Reply) -> bytes:
    return b"data: " + _encode(reply) + b"\n\n"
