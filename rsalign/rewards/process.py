"""A process reward model run by vLLM (pooling runner): one value per step of a response.

One forward pass scores all prefixes of a response; the score at the end of a step is the value of
that step (Lightman et al. 2023, arXiv:2305.20050). `rsalign.rewards.steps.Steps` aggregates them.
"""

import bisect
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
from rsalign.rewards.labels import LabelChoice, LabelReader, LabelSetting
from rsalign.rewards.parts import describe
from rsalign.rewards.rendering import Rendering
from rsalign.rewards.reward_engine import labels_of, start_reward_engine
from rsalign.rewards.steps import Characters, check_ends

if TYPE_CHECKING:
    from vllm.config import ModelConfig


@dataclass(frozen=True, slots=True)
class VllmStepReward:
    """The raw score (no sigmoid) at the end of each step, by token classification in vLLM.

    Law: the value of a step is w . h(x, y[:e]), where e is the reward model's token that contains
    the last character of the step, h the last hidden state at that token and w the one-label head.
    The assistant's turn is left open, so that a value depends neither on what follows its step nor
    on whether the response has ended. (Exception: it may depend slightly on the next characters if
    the reward model's tokenizer merges characters across the end of the step.)

    Scoring a longer version of a response computes its new tokens only. vLLM returns no scores for
    tokens that are in its prefix cache, so the scores of response tokens are cached here, too. If a
    token is in vLLM's cache but not in ours, the request is repeated without reading vLLM's cache.
    In float32, values agree with transformers to 1e-4, alone and in a batch.

    Attributes:
        engine: a pooling engine that runs a causal model with one label.
        decode: the policy's `text` method. The ends of steps are given in the policy's tokens; they
            are converted to the reward model's tokens by way of the text.
        num_remembered: greatest number of response tokens whose score is cached (about 200 bytes
            each); the least recently used are evicted first.
        label: which label is the value of a step, for a model with several: see `LabelChoice.of`.

    Raises:
        ConfigError: if the model is not causal, pools only some tokens, has several labels and none
            was chosen, or its tokenizer has no offset mapping.

    Example:
        >>> steps = VllmStepReward.start("org/prm", decode=policy.text)  # doctest: +SKIP
        >>> reward = Steps(steps, policy.text, aggregate="min")  # doctest: +SKIP
    """

    engine: VllmEngine
    decode: Callable[[Tokens], str]
    num_remembered: int = 1 << 17
    label: LabelSetting = None
    _reader: LabelReader = field(init=False, repr=False, compare=False)
    _rendering: Rendering = field(init=False, repr=False, compare=False)
    _known: "_Known" = field(init=False, repr=False, compare=False)
    _identity: EngineIdentity = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(self, num_remembered=at_least(1))
        model, tokenizer = self.engine.vllm_config.model_config, self.engine.tokenizer
        reader, rendering = _read_model(model, tokenizer, LabelChoice.of(self.label))
        object.__setattr__(self, "_reader", reader)
        object.__setattr__(self, "_rendering", rendering)
        object.__setattr__(self, "_known", _Known(self.num_remembered))
        identity = EngineIdentity.of(self.engine.vllm_config, tokenizer)
        object.__setattr__(self, "_identity", identity)

    @classmethod
    def start(
        cls,
        model: str,
        *,
        decode: Callable[[Tokens], str],
        label: LabelSetting = None,
        backend: Backend = "auto",
        **engine_args: Any,
    ) -> "VllmStepReward":
        """Starts a pooling engine; takes the arguments of `VllmReward.start`, and `decode`.

        Raises:
            ConfigError: as the class, before the model's weights are loaded.
        """
        choice = LabelChoice.of(label)

        def check(described: "ModelConfig", tokenizer: Any) -> object:
            return _read_model(described, tokenizer, choice)

        engine = start_reward_engine(model, check, backend=backend, **engine_args)
        try:
            return cls(engine, decode, label=label)
        except BaseException:
            engine.close()
            raise

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by what the engine runs (its content) and `decode`.

        Raises:
            ConfigError: if the model's files have changed since the engine was started or adopted,
                or `decode` has no fingerprint.
        """
        model = f"{self._identity.fingerprint}{self._reader.fingerprint}"
        return f"vllm steps {model} {describe(self.decode)}"

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """One raw score per step, ``(steps,)``; the last is a `Scored` with the cost of all.

        Raises:
            ConfigError: if `ends` do not increase within the response.
            RewardError: if the engine failed or the text is longer than its context.
        """
        check_ends(response, ends)
        if not ends:
            return ()
        tokens, start, places = self._places(prompt, response, ends)
        addresses = _addresses(tokens, start)
        values = self._known.recall(addresses)
        given = cached = 0
        for read_cache in (True, False):
            if all(values[place - start] is not None for place in places):
                break
            rows = await self._rows(tokens, prompt, response, read_cache=read_cache)
            given, cached = given + len(tokens), cached + len(tokens) - len(rows)
            fresh = rows[-len(addresses) :]
            self._known.remember(addresses[-len(fresh) :], fresh)
            # concurrent calls may have cached the rows that vLLM had in its prefix cache
            values = [*self._known.recall(addresses[: -len(fresh)]), *fresh]
        found = [values[place - start] for place in places]
        scores = [value for value in found if value is not None]
        return (*scores[:-1], Scored(scores[-1], tokens=given, cached_tokens=cached))

    def close(self) -> None:
        """Stops the engine if we started it."""
        self.engine.close()

    def _places(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[Tokens, int, list[int]]:
        """The reward model's tokens, the index of the prompt's last one, and an index per step."""
        marks = [self._num_chars(response, end) for end in ends]
        opened = self._rendering.opened(prompt, response, marks)

        def place(num_chars: int) -> int:
            """The index of the last token that contains part of character number `num_chars`."""
            return max(0, bisect.bisect_right(opened.begins, num_chars - 1) - 1)

        return opened.tokens, place(opened.start), list(map(place, opened.marks))

    def _num_chars(self, response: Response, end: int) -> int:
        """Number of characters of the response's first `end` tokens."""
        if end == len(response.tokens):
            return len(response.text)
        # a stop string that was cut off is not part of the text
        return min(Characters(response, self.decode).of_first(end), len(response.text))

    async def _rows(
        self, tokens: Tokens, prompt: Prompt, response: Response, *, read_cache: bool
    ) -> list[float]:
        """Scores of the tokens that vLLM computed: all, unless its prefix cache is read."""
        request = ScoreRequest(tokens=tokens, each_token=True, read_cache=read_cache)
        try:
            result = await self.engine.score(request)
        except PolicyError as died:
            raise RewardError(str(died), prompt=prompt, response=response) from died
        return [self._reader.read(logits) for logits in result.scores]


def _read_model(
    model: "ModelConfig", tokenizer: Any, choice: LabelChoice
) -> tuple[LabelReader, Rendering]:
    """How the model's input is written and its output read, from vLLM's description of it."""
    if model.attn_type in ("encoder_only", "encoder_decoder"):
        raise ConfigError(
            f"{model.model} has attn_type={model.attn_type!r}, so that the value of a step "
            "would depend on later ones: give a causal model"
        )
    if model.pooler_config is not None and model.pooler_config.tok_pooling_type == "STEP":
        raise ConfigError(
            f"{model.model} pools tagged tokens only (tok_pooling_type='STEP'): start it with "
            "pooler_config=PoolerConfig(tok_pooling_type='ALL')"
        )
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError(
            f"the tokenizer of {model.model} has no offset mapping: give a model with a fast "
            "tokenizer (tokenizer.json)"
        )
    reader = choice.reader(model.model, labels_of(model))
    return reader, Rendering(tokenizer, model.max_model_len)


class _Known:
    """A thread-safe LRU cache of scores by prefix."""

    def __init__(self, size: int) -> None:
        self._values: LRUCache[bytes, float] = LRUCache(size)
        self._lock = threading.Lock()

    def recall(self, addresses: Sequence[bytes]) -> list[float | None]:
        with self._lock:
            return [self._values.get(address) for address in addresses]

    def remember(self, addresses: Sequence[bytes], values: Sequence[float]) -> None:
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
