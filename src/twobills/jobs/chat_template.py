"""How a chat becomes one text: a Jinja template, rendered as Hugging Face ``transformers`` renders it.

A model's folder keeps its template as ``chat_template.jinja`` or in ``tokenizer_config.json``. Templates are other
people's programs, so they run in a sandbox. What ``transformers`` gives them is here too: ``tojson`` that keeps
letters, loop controls, ``strftime_now``, ``raise_exception``, and ``{% generation %}``, which here marks nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from twobills.errors import ModelFolderError

TEMPLATE_FILE, TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"
TURN_START, TURN_END = "<|im_start|>", "<|im_end|>"
CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The template of a model that is taught to chat and has none: OpenAI's ChatML after the token that begins a text."""
Message = Mapping[str, Any]


class ChatTemplate:
    """One template with the special tokens that it may name. Raises ModelFolderError if it is damaged."""

    def __init__(self, source: str, special: Mapping[str, str], *, where: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _raise, "strftime_now": _strftime_now}
        self._special = special
        try:
            self._template = environment.from_string(source)
        except TemplateError as error:
            raise ModelFolderError(f"{where}: chat template is damaged ({error})") from None

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """The chat as text, ending where the assistant speaks if asked. Raises jinja2's TemplateError if it refuses."""
        try:
            return self._template.render(
                messages=list(messages),
                tools=None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self._special,
            )
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise TemplateError(str(error)) from None


def folder_template(folder: Path) -> str | None:
    """The folder's own template, None if it has none. Raises ModelFolderError if a file is damaged."""
    path = folder / TEMPLATE_FILE
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelFolderError(f"{path}: cannot be read ({error})") from None
    template = tokenizer_config(folder).get("chat_template")
    return template if isinstance(template, str) else None


def special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    """The tokens that a template may name, by what ``tokenizer_config.json`` calls them; absent ones are empty."""
    named = {key: token_text(value) for key, value in config.items() if key.endswith("_token")}
    return {"bos_token": "", "eos_token": "", **{key: text for key, text in named.items() if text}}


def tokenizer_config(folder: Path) -> dict[str, Any]:
    """The folder's ``tokenizer_config.json``, empty if there is none. Raises ModelFolderError if it is damaged."""
    path = folder / TOKENIZER_CONFIG
    if not path.is_file():
        return {}
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelFolderError(f"{path}: not readable JSON ({error})") from None
    return document if isinstance(document, dict) else {}


def token_text(token: object) -> str:
    """A token's text, whether it is written plainly or as an object; empty if it is neither."""
    text = token.get("content") if isinstance(token, dict) else token
    return text if isinstance(text, str) else ""


class _Generation(Extension):
    """``{% generation %}``, around what the assistant says: its body as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)
