"""Which of vLLM's reasoning parsers a model needs, where its files say so plainly."""

from typing import Any

from jinja2 import TemplateError

from rsalign.core.errors import ConfigError
from rsalign.core.text.reasoning import THOUGHT_ENDS
from rsalign.engines.vllm.reasoning import TextDivider, known_parsers

_SWITCHES = ("enable_thinking", "thinking")
"""Variables of chat templates that turn thoughts on or off."""
_DEEPSEEK_TURN = "<\uff5cAssistant\uff5c>"
_OTHER_NAMES = {"glm4_moe": "glm45"}
"""Parsers of model types whose name they do not have."""


def writes_thoughts(template: str) -> bool:
    """Whether a chat template knows of thoughts in answers."""
    return any(mark in template for mark in THOUGHT_ENDS)


def thinks(tokenizer: Any) -> bool:
    """Whether a model thinks before its answer, or can be told to, as its chat template says.

    The template has a variable for it, or begins the thought itself. Templates of models that do
    not think may still know how to leave out thoughts of others.
    """
    template = str(getattr(tokenizer, "chat_template", None) or "")
    if not writes_thoughts(template):
        return False
    if any(switch in template for switch in _SWITCHES):
        return True
    try:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}], tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, ValueError, TypeError):  # nothing is plain where it cannot be asked
        return False
    return str(asked).rstrip().endswith("<think>")


def known_parser(model_type: str, tokenizer: Any) -> str:
    """Returns the reasoning parser of a model that thinks, where it is plainly known; else "".

    vLLM has no table of which model needs which. It is plain where a parser's name begins the
    model's type, as ``qwen3`` does ``qwen3_moe``, or where the chat template is that of DeepSeek-R1
    or of models distilled from it; and where the parser works with the tokenizer.

    Args:
        model_type: of the model's configuration in transformers.
        tokenizer: of the model.
    """
    if not thinks(tokenizer):
        return ""
    template = str(tokenizer.chat_template)
    if _DEEPSEEK_TURN in template:
        name = "deepseek_v3" if "thinking" in template else "deepseek_r1"
    else:
        parsers = known_parsers()
        named = [one for one in parsers if model_type == one or model_type.startswith(f"{one}_")]
        name = max(named, key=len, default=_OTHER_NAMES.get(model_type, ""))
    if not name:
        return ""
    try:
        TextDivider.of(name, tokenizer)
    except ConfigError:
        return ""  # of another model of this type
    return name
