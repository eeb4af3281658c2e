"""Policies, rewards and strategies from whatever names them, the same at every door.

A text is, in this order: a name that rsalign gives (``embedded``), the address of a server or
several with commas between them, ``module:name`` of one's own, or the id or path of a model.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.protocols import Policy, Reward, Strategy
from rsalign.embedded import POLICY, REWARD, STRONG
from rsalign.engines.remote import is_address
from rsalign.words.length import with_max_tokens
from rsalign.words.load import is_reference, load
from rsalign.words.messages import clip, show
from rsalign.words.read import Specification, read_object

if TYPE_CHECKING:
    from vllm import LLM, AsyncLLMEngine

T = TypeVar("T")

PolicyLike: TypeAlias = "Policy | str | Sequence[str] | LLM | AsyncLLMEngine"
"""A policy, or what names one (see `policy_from`)."""
RewardLike: TypeAlias = (
    "Reward | str | Sequence[str] | LLM | AsyncLLMEngine | Callable[[str, str], float | None]"
)
"""A reward, or what names one (see `reward_from`)."""
EngineArguments: TypeAlias = Mapping[str, object]
"""Arguments by name for what is started or opened: those of `vllm.EngineArgs`
(``{"max_model_len": 4096}``) for a model, those of `connect` for the address of a server, those of
the class or function for ``"module:name"``."""
StrategyLike: TypeAlias = Strategy | str | Mapping[str, Any]
"""A strategy, or what names one (see `strategy_from`)."""

POLICIES = {"embedded": POLICY, "embedded/policy": POLICY, "embedded/strong": STRONG}
"""Policies that ship with rsalign, by name."""
REWARDS = {"embedded": REWARD, "embedded/reward": REWARD, "embedded/strong": STRONG}
"""Rewards that ship with rsalign, by name; the last is a generative model, for judges."""

_NONE = ("", "none", "null")


def policy_from(given: Any, engine_args: Mapping[str, Any]) -> Policy:
    """A policy from whatever names it.

    Args:
        given: ``"embedded"`` or ``"embedded/strong"``; a model id or path, which vLLM starts; the
            address of an OpenAI-compatible server, or several in a list or with commas between
            them; ``"module:name"`` of a `Policy`, or of a class or function that makes one; a
            running `vllm.LLM` or `AsyncLLM`; or a `Policy`.
        engine_args: for vLLM's engine, the connection, or the class or function.

    Raises:
        ConfigError: if it is none of these, or arguments are given for what exists already.
    """
    from rsalign.policies.openai import OpenAIPolicy
    from rsalign.policies.vllm import VllmPolicy

    found = read_part("policy", given, POLICIES)
    if _is_served(found):
        return _connect(OpenAIPolicy.connect, found, engine_args, "engine_args")
    if isinstance(found, str):
        return VllmPolicy.start(found, **engine_args)
    if not _has(found, "extend") and not _is_vllm(found) and callable(found):
        found = _call(found, engine_args, "engine_args", given)
    elif engine_args:
        raise ConfigError(
            f"engine_args={show(dict(engine_args))} cannot be applied to a {type(found).__name__} "
            "that exists already: set them where it is made"
        )
    if _is_vllm(found):
        return VllmPolicy.adopt(found)
    if isinstance(found, Policy) and not isinstance(found, type):
        return found
    raise ConfigError(
        f"policy{_named(given)} is a {type(found).__name__}: give a model id or path, the address "
        "of a server, module:name of a Policy of your own, a running vllm.LLM or AsyncLLM, or a "
        "Policy (extend and text)"
    )


def reward_from(given: Any, reward_args: Mapping[str, Any]) -> Reward | None:
    """A reward from whatever names it.

    Args:
        given: ``"embedded"``; a model id or path, which vLLM's pooling runner starts; the address
            of a vLLM pooling server, or several in a list or with commas between them;
            ``"module:name"`` of a function, of a `Reward`, or of a class of one; a pooling
            `vllm.LLM` or `AsyncLLM`; a `Reward`; or a function (prompt_text, response_text) ->
            float. None, ``"none"`` or ``""``: there is no reward.
        reward_args: for vLLM's engine, the connection, `FunctionReward`, or the class.

    Raises:
        ConfigError: if it is none of these, or arguments are given for what exists already.
    """
    from rsalign.policies.vllm import adopted
    from rsalign.rewards.function import FunctionReward
    from rsalign.rewards.remote import RemoteReward
    from rsalign.rewards.vllm import VllmReward

    if is_none(given):
        return None
    found = read_part("reward", given, REWARDS)
    if _is_served(found):
        return _connect(RemoteReward.connect, found, reward_args, "reward_args")
    if isinstance(found, str):
        return VllmReward.start(found, **reward_args)
    if isinstance(found, type):
        found = _call(found, reward_args, "reward_args", given)
        reward_args = {}
    if _is_vllm(found):
        made: Any = VllmReward(adopted(found))
    elif isinstance(found, Reward):
        made = found
    elif isinstance(found, Callable):  # type: ignore[arg-type]
        return _call(FunctionReward, {"function": found} | {**reward_args}, "reward_args", given)
    else:
        raise ConfigError(
            f"reward{_named(given)} is a {type(found).__name__}: give a model id or path, the "
            "address of a server, module:name of your own, a Reward (score), or a callable "
            "(prompt_text, response_text) -> float"
        )
    if reward_args:
        raise ConfigError(
            f"reward_args={show(dict(reward_args))} cannot be applied to a {type(found).__name__} "
            "that exists already: set them where it is made"
        )
    return made  # type: ignore[no-any-return]


def strategy_from(given: Any) -> Strategy:
    """A strategy from a name, ``module:name`` of one's own, an object of settings, or a strategy.

    Raises:
        ConfigError: if it is none of these.

    Example:
        >>> strategy_from({"name": "plain", "max_tokens": 8})
        Plain(max_tokens=8, measured=False)
    """
    if isinstance(given, str | Mapping):
        asked = read_object(given)
        for word in asked.given():
            if word not in asked.settings and word != "max_tokens":
                raise ConfigError(f"strategy={show(given)}: {word} is an argument of its own")
        return strategy_of(asked)
    if isinstance(given, Strategy) and not isinstance(given, type):
        return given
    raise ConfigError(
        f"strategy={show(given)}: give an instance, such as BestOf(n=8), or a name, such as "
        "'best_of'; what it is must have `async def sample(prompt, run)`"
    )


def strategy_of(asked: Specification, default: Strategy | None = None) -> Strategy:
    """A specified strategy, bounded by the length that is specified with it.

    Args:
        asked: what is specified; its budget, seed and so on are the caller's to apply.
        default: as in `build_strategy`.

    Raises:
        ConfigError: as `build_strategy`.
    """
    strategy = asked.strategy(default)
    return strategy if asked.max_tokens is None else with_max_tokens(strategy, asked.max_tokens)


def default_reward(policy: Any) -> Any:
    """The reward of a command that names none: the embedded one for the embedded policies."""
    embedded = isinstance(policy, str) and (policy in POLICIES or policy in POLICIES.values())
    return REWARD if embedded else None


def is_none(given: Any) -> bool:
    """Whether this names no reward."""
    return given is None or (isinstance(given, str) and given.strip().lower() in _NONE)


def read_part(what: str, given: Any, known: Mapping[str, str]) -> Any:
    """What a text stands for: the path of a known model, a list of addresses, or an object.

    Any other text, the id or path of a model, stays as it is, and so does what is no text.

    Args:
        what: it is, for messages.
        given: text, or anything else.
        known: names of models that ship with rsalign.

    Raises:
        ConfigError: if ``module:name`` cannot be loaded.
    """
    if not isinstance(given, str):
        return given
    text = given.strip()
    if text in known:
        return known[text]
    if "," in text and is_address(text):
        return [address.strip() for address in text.split(",") if address.strip()]
    if is_reference(text):
        return load(what, text)
    return text


def model_from(what: str, given: str, known: Mapping[str, str] = POLICIES) -> str:
    """The id or path of a model, for what starts engines of its own.

    Raises:
        ConfigError: if it names a server or an object of one's own.
    """
    text = given.strip()
    if is_address(text) or is_reference(text):
        raise ConfigError(
            f"{what}={clip(text, 80)!r}: an engine is started for it here, so give the id or path "
            "of a model"
        )
    return known.get(text, text)


def _has(given: Any, method: str) -> bool:
    return not isinstance(given, type) and callable(getattr(given, method, None))


def _is_vllm(given: Any) -> bool:
    # by name: a vllm.LLM also has a method `score`, and vLLM need not be installed
    return type(given).__module__.split(".")[0] == "vllm"


def _is_served(given: Any) -> bool:
    """Whether this is an address or a list with one; what is wrong in a list is said later."""
    return any(map(is_address, given if isinstance(given, list | tuple) else [given]))


def _named(given: Any) -> str:
    return f" {clip(given, 80)!r}" if isinstance(given, str) else ""


def _call(make: Callable[..., T], arguments: Mapping[str, Any], name: str, given: Any) -> T:
    """An object of a class or a function that makes one.

    Raises:
        ConfigError: if it takes no such arguments.
    """
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as wrong:
        kept = {key: value for key, value in arguments.items() if key != "function"}
        raise ConfigError(
            f"{name}={show(kept)} do not fit {getattr(make, '__qualname__', make)}"
            f"{_named(given)}: {wrong}"
        ) from wrong
    except ValueError:  # a builtin without a signature
        pass
    try:
        return make(**arguments)
    except RsalignError:
        raise
    except (Exception, SystemExit) as error:  # code of the user's own
        raise ConfigError(
            f"{getattr(make, '__qualname__', make)}{_named(given)} cannot be made: "
            f"{clip(f'{type(error).__name__}: {error}', 400)}"
        ) from error


def _connect(connect: Callable[..., T], given: Any, arguments: Mapping[str, Any], name: str) -> T:
    try:
        inspect.signature(connect).bind(given, **arguments)
    except TypeError as wrong:
        known = ", ".join(list(inspect.signature(connect).parameters)[1:])
        raise ConfigError(
            f"{name}={show(dict(arguments))}: {wrong}; for a server there are {known}, and its "
            "engine is set where it is started"
        ) from wrong
    return connect(given, **arguments)
