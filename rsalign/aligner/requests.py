"""One `Request` for each prompt of a call: prompt, strategy, tuned policy and limits together."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from rsalign.aligner.outputs import AlignedOutput, make_failed_output
from rsalign.aligner.parameters import Parameters, SamplingParamsLike, read_parameters
from rsalign.aligner.prompts import (
    ChatRendering,
    read_cache_salt,
    read_names,
    read_prompt,
    show_prompt,
)
from rsalign.core.align import check_law
from rsalign.core.budget import Budget
from rsalign.core.capabilities import needs_reward
from rsalign.core.checks import SEED, check_int, quote
from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.key import Label
from rsalign.core.named_sampling import named_sampling
from rsalign.core.protocols import Policy, Strategy, get_sampling, with_sampling
from rsalign.core.segment_ends import check_boundaries
from rsalign.core.types import Prompt
from rsalign.engines.options import NO_OPTIONS, RequestOptions
from rsalign.words.length import with_max_tokens
from rsalign.words.read import OnRewardError

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.lora.request import LoRARequest

OnError: TypeAlias = Literal["raise", "return"]
"""What a prompt that fails does: ends the call, or has a failed output in its place."""

SamplingParamsForAll: TypeAlias = "SamplingParamsLike | Sequence[SamplingParamsLike | None] | None"
"""One `SamplingParams` for all prompts, or one per prompt."""
LoRARequests: TypeAlias = "LoRARequest | Sequence[LoRARequest | None] | None"
"""One `LoRARequest` for all prompts, or one per prompt."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt with everything that decides its answers.

    Attributes:
        prompt: what is answered.
        strategy: how, with the limit of the answer's length applied.
        policy: draws, under the law that is asked for, with the options of its engine requests.
        name: part of the address of its draws (`rsalign.core.answer.prompt_key`).
        n: number of independent answers.
        seed: root of its randomness; None: whoever answers chooses one.
        budget: hard limits of each answer.
        on_reward_error: what a reward that fails does.
        presentation: vLLM's `SamplingParams`, if answers are not to be presented as usual.
        lists_log_probs: whether log-probabilities of other tokens than the drawn ones are listed.
    """

    prompt: Prompt
    strategy: Strategy
    policy: Policy
    name: Label = 0
    n: int = 1
    seed: int | None = None
    budget: Budget | None = None
    on_reward_error: OnRewardError = "fail"
    presentation: "SamplingParams | None" = None
    lists_log_probs: bool = False


@dataclass(frozen=True, slots=True)
class CallSettings:
    """What a call of the `Aligner` sets, beside its prompts and `SamplingParams`.

    Attributes:
        strategy: None: the aligner's.
        budget: None: the aligner's.
        seed: None: the aligner's.
        on_error: what a prompt that fails does.
        on_reward_error: None: the aligner's.
        lora_request: vLLM's `LoRARequest`, one for all prompts or one per prompt.
        priority: of the requests to the engine, one for all prompts or one per prompt.

    Example:
        >>> call = CallSettings(seed=3).over(CallSettings(seed=0, priority=1))
        >>> call.seed, call.priority
        (3, 1)
    """

    strategy: Strategy | None = None
    budget: Budget | None = None
    seed: int | None = None
    on_error: OnError = "raise"
    on_reward_error: OnRewardError | None = None
    lora_request: LoRARequests = None
    priority: int | Sequence[int] | None = None

    def over(self, defaults: "CallSettings") -> "CallSettings":
        """These settings, and those of `defaults` where these are None."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return replace(defaults, **{n: value for n, value in values.items() if value is not None})


def check_settings(settings: CallSettings, *, has_reward: bool) -> None:
    """Refuses settings that cannot answer any prompt.

    Raises:
        ConfigError: naming the setting and its value.
    """
    budget = settings.budget
    if budget is not None and not isinstance(budget, Budget):
        raise ConfigError(f"budget={quote(budget)}: give Budget(policy_tokens=..., seconds=...)")
    check_int("Aligner", "seed", settings.seed, SEED)
    if settings.strategy is not None:
        require_reward(settings.strategy, has_reward=has_reward)
    check_on_error(settings.on_error)
    if settings.on_reward_error not in ("fail", "best"):
        raise ConfigError(
            f"on_reward_error={quote(settings.on_reward_error)}: choose 'fail' or 'best'"
        )


def require_reward(strategy: Strategy, *, has_reward: bool) -> None:
    """Refuses a strategy that needs a reward where there is none.

    Raises:
        ConfigError: naming the strategy.
    """
    if needs_reward(strategy) and not has_reward:
        raise ConfigError(
            f"{type(strategy).__name__} needs a reward: give reward=..., a model id or path, a "
            "Reward or a callable (prompt_text, response_text) -> float"
        )


def check_on_error(given: object) -> None:
    """Refuses a value that is no `OnError`.

    Raises:
        ConfigError: with the value.
    """
    if given not in ("raise", "return"):
        raise ConfigError(f"on_error={quote(given)}: choose 'raise' or 'return'")


def read_requests(
    prompts: Sequence[Any],
    sampling_params: SamplingParamsForAll,
    settings: CallSettings,
    policy: Policy,
    rendering: ChatRendering | None = None,
    *,
    are_conversations: bool = False,
) -> list[Request | AlignedOutput]:
    """One request per prompt; a prompt that cannot be answered has its failed output instead.

    Args:
        prompts: of `Aligner.generate`, or conversations of `Aligner.chat`.
        sampling_params: one for all prompts, or one per prompt.
        settings: all set but for `lora_request` and `priority`.
        policy: draws.
        rendering: how conversations are rendered.
        are_conversations: whether the prompts are conversations.

    Raises:
        ConfigError: if the parameters that all prompts share cannot work, or a list has another
            length than `prompts`; with ``on_error="raise"`` also if one prompt cannot be answered.
    """
    strategy, seed = settings.strategy, settings.seed
    assert strategy is not None
    assert seed is not None
    count = len(prompts)
    params = one_per_prompt(sampling_params, count, "sampling_params")
    adapters = one_per_prompt(settings.lora_request, count, "lora_request")
    priorities = one_per_prompt(settings.priority, count, "priority")
    share_params = all(each is params[0] for each in params)

    requests: list[Request | AlignedOutput] = []
    for i, (given, (name, wrong_name)) in enumerate(zip(prompts, read_names(prompts), strict=True)):
        prompt: Prompt | None = None
        try:
            if wrong_name is not None:
                raise wrong_name
            prompt = read_prompt(given, policy, rendering, is_conversation=are_conversations)
            options = RequestOptions(
                cache_salt="" if are_conversations else read_cache_salt(given),
                lora_request=adapters[i],
                priority=priorities[i] or 0,
            )
            request = make_request(
                prompt,
                params[i],
                strategy,
                policy,
                options,
                name=name,
                seed=seed,
                budget=settings.budget,
                on_reward_error=settings.on_reward_error or "fail",
            )
        except RsalignError as error:
            if share_params and prompt is not None:
                raise
            numbered = wrong_name or _number(i, error)
            if settings.on_error == "raise":
                raise numbered from numbered.__cause__
            text = show_prompt(given) if prompt is None else prompt.text
            requests.append(make_failed_output(str(name), text, strategy, seed, numbered))
        else:
            requests.append(request)
    return requests


def make_request(
    prompt: Prompt,
    params: "SamplingParamsLike | None",
    strategy: Strategy,
    policy: Policy,
    options: RequestOptions = NO_OPTIONS,
    *,
    name: Label = 0,
    seed: int | None = None,
    budget: Budget | None = None,
    on_reward_error: OnRewardError = "fail",
) -> Request:
    """Applies `SamplingParams` to a strategy and a policy, for one prompt.

    Args:
        prompt: what is answered.
        params: law, length, number of answers and presentation; None: the policy's law and the
            strategy's length.
        strategy: how.
        policy: draws.
        options: what goes with each request to the engine, besides what `params` say of that.
        name: of the prompt.
        seed: unless `params` have one.
        budget: of each answer.
        on_reward_error: what a reward that fails does.

    Raises:
        ConfigError: if a parameter cannot be honoured, or these do not go together.

    Example:
        >>> from rsalign import Plain
        >>> from rsalign.testing import ToyPolicy
        >>> prompt = Prompt((), (1,))
        >>> make_request(prompt, None, Plain(max_tokens=4), ToyPolicy()).n
        1
    """
    with errors_as(partial(_refuse_parameters, params)):
        if isinstance(params, str):
            params = named_sampling(policy, params)
        read = read_parameters(params)
        if read.max_tokens is not None:
            strategy = with_max_tokens(strategy, read.max_tokens)
        options = read.options.over(options)
        return Request(
            prompt=prompt,
            strategy=strategy,
            policy=tune_policy(policy, strategy, read, options, budget),
            name=name,
            n=read.n,
            seed=seed if read.seed is None else read.seed,
            budget=budget,
            on_reward_error=on_reward_error,
            presentation=read.presentation,
            lists_log_probs=options.lists_log_probs,
        )


def tune_policy(
    policy: Policy,
    strategy: Strategy,
    params: Parameters,
    options: RequestOptions,
    budget: Budget | None = None,
) -> Policy:
    """The policy under the law that is asked for; its engine requests carry `options`.

    Args:
        policy: as it was made.
        strategy: that will draw from it.
        params: the law and the presentation.
        options: what goes with each request to the engine.
        budget: of each answer.

    Raises:
        ConfigError: if the policy's law is fixed, the strategy cannot draw from the law or end its
            segments in the policy, or the policy cannot honour an option or the presentation.
    """
    if params.sampling is not None:
        policy = with_sampling(policy, params.sampling)
    check_law(strategy, get_sampling(policy), budget)
    check_boundaries(strategy, policy)
    if given := options.given():
        if not hasattr(policy, "with_options"):
            name, value = next(iter(given.items()))
            raise ConfigError(
                f"{name}={value!r} cannot be honoured: {type(policy).__name__} has no "
                "with_options(), so that its requests carry nothing besides the prompt and the law"
            )
        policy = policy.with_options(options)
    if params.presentation is not None:
        require_tokenizer(policy)
        wants = params.presentation.logprobs is not None
        if wants and not getattr(policy, "tells_log_probs", True):
            raise ConfigError(
                f"logprobs={params.presentation.logprobs} cannot be honoured: the policy's engine "
                "reports log-probabilities before temperature and truncation, and the law is "
                f"{get_sampling(policy)}; start it with logprobs_mode='processed_logprobs'"
            )
    return policy


def require_tokenizer(policy: Policy) -> Any:
    """The tokenizer that turns a policy's tokens into text.

    Raises:
        ConfigError: if it has none.
    """
    tokenization = getattr(policy, "tokenization", None)
    if tokenization is None:
        raise ConfigError(
            f"{type(policy).__name__} has no tokenizer (an attribute `tokenization`), so that its "
            "answers are shown in one way only: leave out logprobs, detokenize, "
            "skip_special_tokens and the like"
        )
    return tokenization.tokenizer


def one_per_prompt(given: S | Sequence[S] | None, count: int, what: str) -> list[S | None]:
    """A list with one value per prompt, from such a list or from one value for all prompts.

    Raises:
        ConfigError: if a list has another length than the prompts.
    """
    if not isinstance(given, list | tuple):
        return [given] * count  # type: ignore[list-item]
    if len(given) != count:
        raise ConfigError(
            f"{len(given)} {what} for {count} prompts: give one for all, or one per prompt"
        )
    return list(given)


def _number(index: int, error: RsalignError) -> ConfigError:
    """The error with the prompt's position in front."""
    numbered = ConfigError(f"prompt {index}: {error}")
    numbered.__cause__ = error
    return numbered


def _refuse_parameters(params: object, failure: BaseException) -> ConfigError:
    return ConfigError(
        f"sampling_params={quote(params)} cannot be honoured: {describe_error(failure)}"
    )
