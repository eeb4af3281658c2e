"""Text to tokens and back, exactly as vLLM does it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rsalign.core.types import Tokens
from rsalign.engines.vllm.release import SINCE_0_32, SINCE_0_33

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer


class NoChatTemplate(Exception):  # noqa: N818 - the caller names the model in its own error
    """A conversation cannot be rendered, because the model has no chat template."""


def load_tokenizer(model_config: Any) -> Any:
    """Returns the tokenizer of vLLM's `ModelConfig`; vLLM loads each once a process."""
    from vllm.tokenizers import cached_tokenizer_from_config

    return cached_tokenizer_from_config(model_config)


def render_conversation(
    renderer: Any,
    tokenizer: Any,
    messages: Sequence[Mapping[str, Any]],
    chat_template: str | None,
    options: Mapping[str, Any],
) -> str | Tokens:
    """Renders a conversation as vLLM's chat endpoint does.

    Args:
        renderer: the engine's.
        tokenizer: the engine's.
        messages: in OpenAI's form.
        chat_template: instead of the tokenizer's; None takes that.
        options: arguments of the template, such as ``add_generation_prompt`` or ``tools``.

    Returns:
        The text, or token ids where the tokenizer renders no text (Mistral's).

    Raises:
        NoChatTemplate: if there is no chat template.
        ValueError: if vLLM or the template refuses the conversation.
    """
    from vllm.renderers.params import ChatParams
    from vllm.utils.mistral import is_mistral_tokenizer

    if SINCE_0_33:
        from vllm.exceptions import ChatTemplateResolutionError
    elif SINCE_0_32:
        from vllm.renderers.chat_utils import ChatTemplateResolutionError
    else:
        from vllm.entrypoints.chat_utils import ChatTemplateResolutionError

    tokenize = is_mistral_tokenizer(tokenizer)  # as vLLM does: these render no text
    params = ChatParams(
        chat_template=chat_template, chat_template_kwargs={**options, "tokenize": tokenize}
    )
    try:
        _, prompt = renderer.render_messages(list(messages), params)
    except ChatTemplateResolutionError as missing:
        raise NoChatTemplate(str(missing)) from missing
    if "prompt_token_ids" in prompt:
        return tuple(prompt["prompt_token_ids"])
    return str(prompt["prompt"])


def new_detokenizer(
    tokenizer: Any, params: "SamplingParams", prompt: Sequence[int]
) -> "IncrementalDetokenizer":
    """Returns vLLM's detokenizer for one completion.

    Args:
        tokenizer: the policy's.
        params: how the text is shown, and the stop strings to look for.
        prompt: token ids before the completion.
    """
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.detokenizer import IncrementalDetokenizer

    request = EngineCoreRequest(
        request_id="",
        prompt_token_ids=list(prompt),
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    return IncrementalDetokenizer.from_new_request(
        tokenizer if params.detokenize else None, request
    )


def decode_each(tokens: Sequence[int], tokenizer: Any) -> list[str]:
    """Returns the text of each token by itself, as vLLM shows it beside log-probabilities."""
    from vllm.tokenizers.detokenizer_utils import convert_ids_list_to_tokens

    return list(convert_ids_list_to_tokens(tokenizer, list(tokens)))
