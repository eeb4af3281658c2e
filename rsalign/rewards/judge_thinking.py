"""Asks a judge that is a reasoning model for its answer at once, without a thought before it."""

from collections.abc import Mapping
from typing import Any

from rsalign.core.errors import ConfigError
from rsalign.core.protocols import Encoder
from rsalign.core.text.chat_options import ChatOptions
from rsalign.core.text.reasoning import Dividing
from rsalign.core.types import Message, Prompt, Tokens
from rsalign.rewards.judge_questions import encode_question

NO_THOUGHT: Mapping[str, Any] = {"enable_thinking": False, "thinking": False}
"""The variables by which chat templates are told that the model shall not think; templates of other
models do not read them."""


def encode_without_thought(policy: Encoder, question: tuple[Message, ...]) -> Tokens:
    """Renders a question so that the next token is the first of the answer.

    Raises:
        ConfigError: if the judge's reasoning parser finds that a thought would come first, which
            its chat template cannot be told to leave out.
    """
    if not isinstance(policy, Dividing):
        return encode_question(policy, question)
    tokens = encode_question(policy, question, template_kwargs=NO_THOUGHT)
    prompt = Prompt(question, tokens, ChatOptions(chat_template_kwargs=NO_THOUGHT))
    word = policy.encode_chat(
        (Message("assistant", _WORD),), chat_template=_BARE, add_generation_prompt=False
    )
    if policy.divides and policy.divide(prompt, word, _WORD, complete=True) != (_WORD, None):
        raise ConfigError(
            "the judge is a reasoning model, whose thought comes before any choice, and its chat "
            "template cannot be told to leave it out (enable_thinking): use a judge that writes "
            "its verdict, which is read after the thought"
        )
    return tokens


_WORD = "Yes"
_BARE = "{{ messages[0]['content'] }}"
