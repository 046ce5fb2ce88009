"""A chat as one prompt: by the model's own template, else plainly.

Without a template of the folder's, each message is a line ``role: content`` and the prompt ends with ``assistant:``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import TemplateError

from twobills.jobs import chat_template
from twobills.jobs.server.protocol import ApiError, ChatMessage

PLAIN_TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"


class ChatTemplate:
    """Renders chats for one model folder. Raises ModelFolderError if the folder's template is damaged."""

    def __init__(self, folder: Path) -> None:
        source = chat_template.folder_template(folder)
        special = chat_template.special_tokens(chat_template.tokenizer_config(folder))
        plain = PLAIN_TEMPLATE if source is None else source
        self._template = chat_template.ChatTemplate(plain, special, where=str(folder))

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt, ending where the assistant speaks. Raises ApiError if the template refuses."""
        plain = [{"role": message.role, "content": message.text()} for message in messages]
        try:
            return self._template.render(plain, add_generation_prompt=True)
        except TemplateError as error:
            raise ApiError(f"the chat template refuses these messages: {error}", param="messages") from None
