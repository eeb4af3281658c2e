"""Policies and rewards from a text: a model, a server, or an object of the user's own.

A text is, in this order: a name that rsalign gives (``embedded``), the address of a server or
several with commas between them, ``module:name`` of the user's own code, or the id or path of a
model, for which vLLM starts an engine.
"""

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rsalign.core.errors import ConfigError, RsalignError
from rsalign.core.protocols import Policy, Reward, StepReward
from rsalign.core.text.reasoning import Reasoning
from rsalign.embedded import POLICY, REWARD, STRONG
from rsalign.engines.remote import is_address
from rsalign.words.messages import clip, show

T = TypeVar("T")

POLICIES = {"embedded": POLICY, "embedded/policy": POLICY, "embedded/strong": STRONG}
"""Path of each policy model in the package, by name."""
REWARDS = {"embedded": REWARD, "embedded/reward": REWARD, "embedded/strong": STRONG}
"""Path of each model in the package that a reward can be made of, by name. ``embedded/strong`` is a
generative model, for judges."""

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def make_policy(
    given: Any, engine_args: Mapping[str, Any], reasoning: Reasoning | None = None
) -> Policy:
    """A policy from a text or an object; see `rsalign.words.parts.policy_from`.

    Raises:
        ConfigError: if it is none, or arguments are given for an object that exists already.
    """
    from rsalign.policies.vllm import VllmPolicy
    from rsalign.policies.vllm_server import VllmServerPolicy

    found = read_part("policy", given, POLICIES)
    if _is_served(found):
        policy: Policy = _connect(VllmServerPolicy.connect, found, engine_args, "engine_args")
        return with_reasoning(policy, reasoning)
    if isinstance(found, str):
        return VllmPolicy.start(found, **{"reasoning": reasoning, **engine_args})
    if not _has(found, "extend") and not is_vllm(found) and callable(found):
        found = _call(found, engine_args, "engine_args", given)
    elif engine_args and not (is_vllm(found) and engine_args.keys() == {"lora"}):
        raise _exists_already("engine_args", engine_args, found)
    if is_vllm(found):
        return VllmPolicy.adopt(found, reasoning=reasoning, lora=engine_args.get("lora"))
    if isinstance(found, Policy) and not isinstance(found, type):
        return with_reasoning(found, reasoning)
    raise ConfigError(
        f"policy{_named(given)} is a {type(found).__name__}: give a model id or path, the address "
        "of a server, module:name of a Policy of your own, a running vllm.LLM or AsyncLLM, or a "
        "Policy (extend and text)"
    )


def with_reasoning(policy: Policy, reasoning: Reasoning | None) -> Policy:
    """The policy with the text of its responses divided so; None: as the policy itself does.

    Raises:
        ConfigError: if it cannot be told how.
    """
    if reasoning is None:
        return policy
    tell = getattr(policy, "with_reasoning", None)
    if tell is None and not reasoning.divides:
        return policy
    if tell is None:
        raise ConfigError(
            f"reasoning_parser={reasoning.parser!r} cannot be honoured: {type(policy).__name__} "
            "has no with_reasoning(); divide its text in a method divide() of its own "
            "(rsalign.core.text.reasoning)"
        )
    return tell(reasoning)  # type: ignore[no-any-return]


def make_reward(given: Any, reward_args: Mapping[str, Any]) -> Reward:
    """A reward from a text or an object; see `rsalign.words.parts.reward_from`.

    An object that judges steps alone is returned, too: it can be a part of another reward.

    Raises:
        ConfigError: if it is none, or arguments are given for an object that exists already.
    """
    from rsalign.engines.vllm.starting import adopt_engine
    from rsalign.rewards.function import FunctionReward
    from rsalign.rewards.remote import RemoteReward
    from rsalign.rewards.vllm import VllmReward

    found = read_part("reward", given, REWARDS)
    if _is_served(found):
        return _connect(RemoteReward.connect, found, reward_args, "reward_args")
    if isinstance(found, str):
        return VllmReward.start(found, **reward_args)
    if isinstance(found, type):
        found = _call(found, reward_args, "reward_args", given)
        reward_args = {}
    if is_vllm(found):  # how its input is written and its output read is not the engine's to say
        arguments = {"engine": adopt_engine(found)} | {**reward_args}
        return _call(VllmReward, arguments, "reward_args", given)
    if isinstance(found, Reward | StepReward):
        made: Any = found
    elif isinstance(found, Callable):  # type: ignore[arg-type]
        return _call(FunctionReward, {"function": found} | {**reward_args}, "reward_args", given)
    else:
        raise ConfigError(
            f"reward{_named(given)} is a {type(found).__name__}: give a model id or path, the "
            "address of a server, module:name of your own, a Reward (score), or a callable "
            "(prompt_text, response_text) -> float"
        )
    if reward_args:
        raise _exists_already("reward_args", reward_args, found)
    return made  # type: ignore[no-any-return]


def read_part(what: str, given: Any, known: Mapping[str, str]) -> Any:
    """The path of a known model, a list of addresses, or the object that a text stands for.

    Any other text, such as the id or path of a model, is returned as it is, and so is anything
    that is not text.

    Args:
        what: the kind of part, for messages.
        given: text, or anything else.
        known: path of each model in the package, by name.

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
    """The id or path of a model, for a command that starts the model's engine itself.

    Raises:
        ConfigError: if the text names a server or an object of the user's own.
    """
    text = given.strip()
    if is_address(text) or is_reference(text):
        raise ConfigError(
            f"{what}={clip(text, 80)!r}: an engine is started for it here, so give the id or path "
            "of a model"
        )
    return known.get(text, text)


def is_reference(text: str) -> bool:
    """Whether a text has the form ``module:name``, and is not the path of a file or folder.

    >>> is_reference("judges.own:score"), is_reference("http://host:1"), is_reference("org/model")
    (True, False, False)
    """
    return _REFERENCE.fullmatch(text) is not None and not Path(text).exists()


def load(what: str, reference: str) -> Any:
    """The function, class or object that ``module:name`` refers to.

    The module is looked for in the current directory first, as ``python -m module`` does; the
    directory stays on `sys.path`, so that worker processes find the module, too.

    Args:
        what: the kind of part, for messages.
        reference: such as ``judges.own:score``; the name may have dots.

    Raises:
        ConfigError: if it cannot be imported, whatever the module raises, or has no such name.
    """
    module, _, name = reference.partition(":")
    here = str(Path.cwd())
    if here not in map(os.path.abspath, sys.path):
        sys.path.insert(0, here)
    try:
        found = importlib.import_module(module)
        for attribute in name.split("."):
            found = getattr(found, attribute)
    except (Exception, SystemExit) as error:  # the module's own code runs here
        reason = clip(f"{type(error).__name__}: {error}", 400)
        raise ConfigError(
            f"cannot load {what} {clip(reference, 80)!r}: {reason}. The module is looked for in "
            "the current directory and where Python finds installed packages"
        ) from error
    return found


def _has(given: Any, method: str) -> bool:
    return not isinstance(given, type) and callable(getattr(given, method, None))


def is_vllm(given: Any) -> bool:
    """Whether this is an engine of vLLM's."""
    # by name: a vllm.LLM also has a method `score`, and vLLM need not be installed
    return type(given).__module__.split(".")[0] == "vllm"


def _is_served(given: Any) -> bool:
    """Whether this is an address, or a list with one; errors in the list are reported later."""
    return any(map(is_address, given if isinstance(given, list | tuple) else [given]))


def _named(given: Any) -> str:
    return f" {clip(given, 80)!r}" if isinstance(given, str) else ""


def _exists_already(name: str, arguments: Mapping[str, Any], found: Any) -> ConfigError:
    return ConfigError(
        f"{name}={show(dict(arguments))} cannot be applied to a {type(found).__name__} "
        "that exists already: set them where it is made"
    )


def _call(make: Callable[..., T], arguments: Mapping[str, Any], name: str, given: Any) -> T:
    """Calls a class, or a function that makes an object.

    Raises:
        ConfigError: if it does not take these arguments, or raises.
    """
    try:
        inspect.signature(make).bind(**arguments)
    except TypeError as wrong:
        ours = ("function", "engine")
        kept = {key: value for key, value in arguments.items() if key not in ours}
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
