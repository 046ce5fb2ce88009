"""A chat as one prompt: by the model's own template, else plainly.

The template is the folder's ``chat_template.jinja`` or ``chat_template`` in ``tokenizer_config.json``,
rendered in a sandbox as ``transformers`` does. Without one, each message is a line ``role: content`` and
the prompt ends with ``assistant:``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from twobills.errors import ModelFolderError
from twobills.jobs.server.protocol import ApiError, ChatMessage

PLAIN_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


class ChatTemplate:
    """Renders chats for one model folder. Raises ModelFolderError if the folder's template is damaged."""

    def __init__(self, folder: Path) -> None:
        config = _tokenizer_config(folder)
        source = _source(folder, config)
        self._special = {key: _token_text(config.get(key)) for key in ("bos_token", "eos_token")}
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = _raise
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelFolderError(f"{folder}: chat template is damaged ({error})") from None

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt, ending where the assistant speaks. Raises ApiError if the template refuses."""
        plain = [{"role": message.role, "content": message.text()} for message in messages]
        try:
            return self._template.render(messages=plain, add_generation_prompt=True, **self._special)
        except TemplateError as error:
            raise ApiError(f"the chat template refuses these messages: {error}", param="messages") from None


def _source(folder: Path, config: dict[str, object]) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template")
    return template if isinstance(template, str) else PLAIN_TEMPLATE


def _tokenizer_config(folder: Path) -> dict[str, object]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFolderError(f"{path}: not readable JSON ({error})") from None
    return document if isinstance(document, dict) else {}


def _token_text(token: object) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
