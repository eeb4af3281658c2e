"""How `vllm.LLM` reads the arguments of `generate` and `chat`, by its private functions."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm import LLM, SamplingParams


def list_prompts(name: str, given: Any) -> Sequence[Any]:
    """Returns the prompts of a call as a sequence, also where one prompt was given.

    Args:
        name: of the method, ``"generate"`` or ``"chat"``.
        given: its first argument.
    """
    from vllm.renderers.inputs.preprocess import conversation_to_seq, prompt_to_seq

    prompts: Sequence[Any] = (prompt_to_seq if name == "generate" else conversation_to_seq)(given)
    return prompts


def list_params(llm: "LLM", given: Any, num_prompts: int) -> "Sequence[SamplingParams]":
    """Returns the sampling parameters of each prompt of a call.

    Args:
        llm: the engine.
        given: one `SamplingParams`, one for each prompt, or None for the model's defaults.
        num_prompts: of the call.

    Raises:
        ValueError: if there are more or fewer parameters than prompts.
    """
    params = llm.get_default_sampling_params() if given is None else given
    each: Sequence[SamplingParams] = llm._params_to_seq(params, num_prompts)
    return each


def render_prompt(
    llm: "LLM", name: str, prompt: Any, options: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Returns one prompt as `vllm.LLM` hands it to its engine.

    Args:
        llm: the engine.
        name: of the method, ``"generate"`` or ``"chat"``.
        prompt: one of `list_prompts`.
        options: arguments of the call that change how the prompt is rendered.

    Returns:
        ``"type"`` is ``"token"`` for a prompt of text, whose ids are ``"prompt_token_ids"``.
    """
    render: Callable[..., Mapping[str, Any]] = {
        "generate": llm._preprocess_cmpl_one,
        "chat": llm._preprocess_chat_one,
    }[name]
    return render(prompt, **options)
