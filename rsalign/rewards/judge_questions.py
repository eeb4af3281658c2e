"""Questions to a judge as its tokens, also where its chat template refuses a system message."""

from functools import partial
from typing import Any

from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, PolicyError, RsalignError
from rsalign.core.foreign import describe_error
from rsalign.core.protocols import Encoder
from rsalign.core.text.roles import render_merged, say_merged
from rsalign.core.types import Message, Tokens


def encode_question(policy: Encoder, question: tuple[Message, ...], **options: Any) -> Tokens:
    """Renders a question by the judge's chat template.

    A system message that the template refuses (Gemma 2) is put before the user's message, which is
    logged once.

    Args:
        policy: the judge.
        question: the rendered template.
        options: of `Encoder.encode_chat`.

    Raises:
        PolicyError: if the template fails on this question, but not on others.
        ConfigError: if it fails on all.
    """
    say = partial(say_merged, f"the judge ({type(policy).__name__})")
    try:
        return render_merged(partial(policy.encode_chat, **options), question, say)
    except Exception as failure:
        said = (
            f"the judge's chat template fails on a question ({describe_error(failure)}): "
            f"{quote(question[-1].content)}"
        )
        if _renders(policy, (Message("user", "Hello"),)):
            raise PolicyError(said) from failure
        if isinstance(failure, RsalignError):
            raise
        raise ConfigError(said) from failure


def _renders(policy: Encoder, messages: tuple[Message, ...]) -> bool:
    try:
        policy.encode_chat(messages)
    except Exception:  # noqa: BLE001 - the caller raises what it failed with first
        return False
    return True
