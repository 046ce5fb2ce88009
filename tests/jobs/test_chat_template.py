"""Chat templates: what we render is what ``transformers`` renders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from tokenizers import Tokenizer

from twobills.errors import ModelFolderError
from twobills.jobs.chat_template import CHATML, ChatTemplate, folder_template, special_tokens
from twobills.jobs.data.codec import END_OF_TEXT, train_tokenizer

transformers = pytest.importorskip("transformers")

HEADERS = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('Unknown role: ' + message.role) }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
TOOLS_AND_MACROS = """{%- macro turn(role, text) %}<|im_start|>{{ role }}
{{ text }}<|im_end|>
{% endmacro %}
{%- if tools is defined and tools is not none %}{{ tools | tojson }}{%- endif %}
{%- set ns = namespace(n=0) %}
{%- for message in messages %}
    {%- if loop.index > 9 %}{% break %}{%- endif %}
    {%- set ns.n = ns.n + 1 %}
    {%- if message.role == 'assistant' %}<|im_start|>assistant
{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}

{% else %}{{ turn(message.role, message.content) }}{%- endif %}
{%- endfor %}
{{- ns.n }} {{ messages[0] | tojson }} {{ strftime_now('%Y') | length }}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "  Grüß dich, <world> & 你好 "},
    {"role": "assistant", "content": "Hi!\n\nBye."},
    {"role": "user", "content": ""},
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["Be kind. assistant user system Hello there"] * 5, 320)


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize("source", [CHATML, HEADERS, TOOLS_AND_MACROS], ids=["chatml", "headers", "macros"])
def test_it_renders_as_transformers_does(tokenizer: Tokenizer, source: str, add_generation_prompt: bool) -> None:
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT, chat_template=source
    )
    ours = ChatTemplate(source, {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}, where="here")
    expected = theirs.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=add_generation_prompt)
    assert ours.render(MESSAGES, add_generation_prompt=add_generation_prompt) == expected
    assert "Grüß" in expected


def test_a_template_that_refuses_says_why() -> None:
    template = ChatTemplate(HEADERS, special_tokens({}), where="here")
    with pytest.raises(TemplateError, match="Unknown role: tool"):
        template.render([{"role": "tool", "content": "x"}], add_generation_prompt=False)


def test_a_damaged_template_is_one_line() -> None:
    with pytest.raises(ModelFolderError, match="here: chat template is damaged"):
        ChatTemplate("{% for x in %}", {}, where="here")


def test_templates_cannot_reach_out() -> None:
    template = ChatTemplate("{{ messages.__class__.__mro__ }}", {}, where="here")
    with pytest.raises(TemplateError):
        template.render([], add_generation_prompt=False)


def test_the_file_goes_before_the_key(tmp_path: Path) -> None:
    config: dict[str, Any] = {"chat_template": "from the key", "bos_token": {"content": "<s>"}, "eos_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert folder_template(tmp_path) == "from the key"
    (tmp_path / "chat_template.jinja").write_text("from the file")
    assert folder_template(tmp_path) == "from the file"
    assert folder_template(tmp_path / "nowhere") is None
    assert special_tokens(config) == {"bos_token": "<s>", "eos_token": ""}
