"""A process reward model run by vLLM (pooling runner): one value per step of a response.

One forward pass scores all prefixes of a response; the score at the end of a step is the value of
that step (Lightman et al. 2023, arXiv:2305.20050). `rsalign.rewards.steps.Steps` aggregates them.
"""

import hashlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cachetools import LRUCache

from rsalign.core.checks import at_least, check_settings
from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.protocols import Scored
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.engines.protocol import Backend, ScoreRequest, VllmEngine
from rsalign.engines.vllm.identity import EngineIdentity
from rsalign.engines.vllm.token_logits import (
    classify_by_tokens,
    pools_all_tokens,
    token_logits_arguments,
)
from rsalign.rewards.labels import LabelSetting
from rsalign.rewards.parts import describe
from rsalign.rewards.reward_engine import labels_of, start_reward_engine
from rsalign.rewards.step_layouts import STEP_LAYOUTS, StepLayout, ValueReader
from rsalign.rewards.step_reader import StepInput, StepReader, token_ids

if TYPE_CHECKING:
    from vllm.config import ModelConfig

Logits = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class VllmStepReward:
    """The value of each step, by a process reward model of any layout that vLLM runs.

    Law: the value of a step is f(W h(x, y[:e])), where h is the last hidden state at the token e
    that the layout names, W the model's head (or two rows of a language model's output layer), and
    f the logit itself, a sigmoid or a softmax. The layout ``"raw"`` reads the logit of a one-label
    model at the last character of each step; its assistant's turn is left open. A value depends
    neither on what follows its step nor on whether the response has ended. (Exception: without a
    separator between steps, it may depend slightly on the next characters if the reward model's
    tokenizer merges characters across the end of the step.)

    Scoring a longer version of a response computes its new tokens only. vLLM returns no scores for
    tokens that are in its prefix cache, so the scores of response tokens are cached here, too. If a
    token is in vLLM's cache but not in ours, the request is repeated without reading vLLM's cache.
    In float32, values agree with transformers to 1e-4, alone and in a batch.

    Attributes:
        engine: a pooling engine that runs a causal model.
        decode: the policy's `text` method. The ends of steps are given in the policy's tokens; they
            are converted to the reward model's tokens by way of the text.
        num_remembered: greatest number of response tokens whose score is cached (about 200 bytes
            each); the least recently used are evicted first.
        label: which label is the value, if not what the layout says: see `LabelChoice.of`.
        layout: what the model reads and returns; see `StepLayout`.

    Raises:
        ConfigError: if the model is not causal, returns logits of some tokens only, or its
            tokenizer has no offset mapping, or if the layout does not fit its labels.

    Example:
        >>> steps = VllmStepReward.start(  # doctest: +SKIP
        ...     "Qwen/Qwen2.5-Math-PRM-7B", decode=policy.text, layout="qwen2.5-math-prm"
        ... )
        >>> reward = Steps(steps, policy.text)  # doctest: +SKIP
    """

    engine: VllmEngine
    decode: Callable[[Tokens], str]
    num_remembered: int = 1 << 17
    label: LabelSetting = None
    layout: StepLayout = STEP_LAYOUTS["raw"]
    _reader: StepReader = field(init=False, repr=False, compare=False)
    _values: ValueReader = field(init=False, repr=False, compare=False)
    _known: "_Known" = field(init=False, repr=False, compare=False)
    _identity: EngineIdentity = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(self, num_remembered=at_least(1))
        object.__setattr__(self, "layout", self.layout.with_label(self.label))
        model, tokenizer = self.engine.vllm_config.model_config, self.engine.tokenizer
        object.__setattr__(self, "_values", _value_reader(model, self.layout))
        reader = StepReader(self.layout, tokenizer, model.max_model_len, self.decode)
        object.__setattr__(self, "_reader", reader)
        object.__setattr__(self, "_known", _Known(self.num_remembered))
        identity = EngineIdentity.of(self.engine.vllm_config, tokenizer)
        object.__setattr__(self, "_identity", identity)

    @classmethod
    def start(
        cls,
        model: str,
        *,
        decode: Callable[[Tokens], str],
        layout: StepLayout | str = "raw",
        label: LabelSetting = None,
        backend: Backend = "auto",
        **engine_args: Any,
    ) -> "VllmStepReward":
        """Starts a pooling engine for a process reward model.

        Args:
            model: Hugging Face id or path.
            decode: the policy's `text` method.
            layout: of the model; one of `STEP_LAYOUTS` by name, or a `StepLayout` of your own.
            label: see the class.
            backend: as for `VllmPolicy.start`.
            engine_args: as for `VllmPolicy.start`.

        Raises:
            ConfigError: if there is no such layout, vLLM cannot run it, or the model does not fit
                it; before the model's weights are loaded.
        """
        layout = StepLayout.named(layout) if isinstance(layout, str) else layout
        asked = layout.with_label(label)
        _check_head(asked)

        def check(described: "ModelConfig", tokenizer: Any) -> None:
            if asked.tokens:
                ids = token_ids(asked, tokenizer)
                classify_by_tokens(described, tokenizer.convert_ids_to_tokens(ids))
            _value_reader(described, asked)
            StepReader(asked, tokenizer, described.max_model_len, decode)

        arguments = token_logits_arguments(engine_args, causal=bool(asked.tokens))
        engine = start_reward_engine(model, check, backend=backend, **arguments)
        try:
            return cls(engine, decode, layout=asked)
        except BaseException:
            engine.close()
            raise

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by what the engine runs, the layout and `decode`.

        Raises:
            ConfigError: if the model's files have changed since the engine was started or adopted,
                or `decode` has no fingerprint.
        """
        parts = describe((self.decode, self.layout))
        return f"vllm steps {self._identity.fingerprint} {parts}"

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """One value per step, ``(steps,)``; the last is a `Scored` with the cost of all.

        Raises:
            ConfigError: if `ends` do not increase within the response.
            RewardError: if the engine failed or the text is longer than its context.
        """
        if not ends:
            return ()
        found = self._reader.read(prompt, response, ends)
        tokens, start = found.tokens, found.start
        addresses = _addresses(tokens, start)
        values = self._known.recall(addresses)
        given = cached = 0
        for read_cache in (True, False):
            if all(values[place - start] is not None for place in found.places):
                break
            rows = await self._rows(tokens, prompt, response, read_cache=read_cache)
            given, cached = given + len(tokens), cached + len(tokens) - len(rows)
            fresh = rows[-len(addresses) :]
            self._known.remember(addresses[-len(fresh) :], fresh)
            # concurrent calls may have cached the rows that vLLM had in its prefix cache
            values = [*self._known.recall(addresses[: -len(fresh)]), *fresh]
        scores = self._values_at(found, values)
        return (*scores[:-1], Scored(scores[-1], tokens=given, cached_tokens=cached))

    def close(self) -> None:
        """Stops the engine if we started it."""
        self.engine.close()

    def _values_at(self, found: StepInput, values: Sequence[Logits | None]) -> list[float]:
        logits = (values[place - found.start] for place in found.places)
        return [self._values.read(one) for one in logits if one is not None]

    async def _rows(
        self, tokens: Tokens, prompt: Prompt, response: Response, *, read_cache: bool
    ) -> list[Logits]:
        """Logits of the tokens that vLLM computed: all, unless its prefix cache is read."""
        request = ScoreRequest(tokens=tokens, each_token=True, read_cache=read_cache)
        try:
            result = await self.engine.score(request)
        except PolicyError as died:
            raise RewardError(str(died), prompt=prompt, response=response) from died
        return list(result.scores)


def _check_head(layout: StepLayout) -> None:
    """Refuses layouts that vLLM's pooling runner cannot compute."""
    others = {
        "value_head": "vLLM runs no value head: use TransformersStepReward (transformers_steps)",
        "ratio": "it compares two language models: use ImplicitStepReward (implicit_steps)",
    }
    if layout.head in others:
        raise ConfigError(f"the layout has head={layout.head!r}: {others[layout.head]}")


def _value_reader(model: "ModelConfig", layout: StepLayout) -> ValueReader:
    """What computes values from the model's logits, from vLLM's description of the model."""
    _check_head(layout)
    if model.attn_type in ("encoder_only", "encoder_decoder"):
        raise ConfigError(
            f"{model.model} has attn_type={model.attn_type!r}, so that the value of a step "
            "would depend on later ones: give a causal model"
        )
    if not pools_all_tokens(model.pooler_config):
        raise ConfigError(
            f"{model.model} returns the logits of tagged tokens only "
            f"(pooler_config={model.pooler_config}): start it without pooler_config"
        )
    return layout.reader(model.model, labels_of(model))


class _Known:
    """A thread-safe LRU cache of logits by prefix."""

    def __init__(self, size: int) -> None:
        self._values: LRUCache[bytes, Logits] = LRUCache(size)
        self._lock = threading.Lock()

    def recall(self, addresses: Sequence[bytes]) -> list[Logits | None]:
        with self._lock:
            return [self._values.get(address) for address in addresses]

    def remember(self, addresses: Sequence[bytes], values: Sequence[Logits]) -> None:
        with self._lock:
            self._values.update(zip(addresses, values, strict=True))


def _addresses(tokens: Tokens, start: int) -> list[bytes]:
    """Hashes of the prefixes ``tokens[: i + 1]``, for every i from `start` on."""
    running = hashlib.blake2b(repr(tokens[:start]).encode(), digest_size=16)
    addresses = []
    for token in tokens[start:]:
        running.update(token.to_bytes(4, "little"))
        addresses.append(running.digest())
    return addresses
