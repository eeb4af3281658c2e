"""A sequence-classification reward model behind a vLLM pooling server."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.engines.answers import ServedModel
from rsalign.engines.remote import Replicas
from rsalign.rewards.labels import (
    LabelChoice,
    LabelReader,
    LabelSetting,
    default_names,
    label_names,
)
from rsalign.rewards.pairs import PairRendering, choose_rendering, suffix_of
from rsalign.rewards.rendering import Rendering

if TYPE_CHECKING:
    from openai import AsyncOpenAI


@dataclass(frozen=True, slots=True)
class RemoteReward:
    """The raw score (no sigmoid) of a model behind a server, by ``POST /classify``.

    A model that vLLM lets score tokens only (Qwen2ForRewardModel, InternLM2ForRewardModel) is asked
    by ``POST /pooling``, for the score of the last token.

    The chat template is applied here, with the reward model's own tokenizer, and token ids are
    sent, so that in float32 the score equals that of `VllmReward`. The server does not report how
    many tokens its prefix cache had.

    Attributes:
        replicas: the servers. All requests of one prompt go to the same replica, so that they find
            the prompt in its prefix cache.
        model: the model's name on the server.
        rendering: the reward model's tokenizer, chat template and context length.
        served: the model as the server describes it; None if only its name is known.
        reader: computes the reward from the logits of the labels.
        classifies: whether the server scores whole sequences, and not tokens only.

    Example:
        >>> reward = RemoteReward.connect("http://gpu-2:8001")  # doctest: +SKIP
        >>> await reward.score(prompt, response)  # doctest: +SKIP
        2.39
    """

    replicas: Replicas
    model: str
    rendering: Rendering | PairRendering = field(repr=False)
    served: ServedModel | None = field(default=None, repr=False, kw_only=True)
    reader: LabelReader = field(
        default=LabelReader("the served model", "weights", (1.0,)), repr=False, kw_only=True
    )
    classifies: bool = field(default=True, repr=False, kw_only=True)

    @classmethod
    def connect(
        cls,
        addresses: str | Sequence[str],
        *,
        model: str | None = None,
        label: LabelSetting = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        api_key: str | None = None,
        timeout_seconds: float = 300.0,
        retries: int = 4,
        max_open: int = 256,
    ) -> "RemoteReward":
        """Connects to ``vllm serve MODEL --runner pooling``, or to several of the same model.

        Args:
            addresses: ``"http://host:port"``, with or without ``/v1``, or a list of them.
            model: name of the served model; default: the only one that is served.
            label: which label is the reward, for a model with several: see `LabelChoice.of`. Names
                need the model's configuration on this machine or on the Hub.
            tokenizer: id, path or a Hugging Face tokenizer; default: that of the served model.
            chat_template: used instead of the tokenizer's.
            api_key: default: the environment variable OPENAI_API_KEY, if set.
            timeout_seconds: greatest time without data from a server that accepted a request.
            retries: number of further rounds through the replicas after a failed one.
            max_open: greatest number of open requests at one replica; further ones wait here.

        Raises:
            InstallError: if the package `openai` is missing.
            ConfigError: if an argument is invalid, the model or its tokenizer is not found, or the
                model has several labels and none was chosen.
            PolicyError: if no server answers.
        """
        choice = LabelChoice.of(label)
        replicas = Replicas(
            addresses,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            retries=retries,
            max_open=max_open,
        )
        served = replicas.call(replicas.served(model))
        config = _config_of(served)
        rendering = choose_rendering(
            served.tokenizer(tokenizer),
            served.max_model_len or sys.maxsize,
            chat_template,
            suffix_of(config),
        )
        if isinstance(rendering, PairRendering) and rendering.tells_texts_apart:
            raise ConfigError(
                f"{served.name!r} reads pairs of texts and is told which token belongs to which, "
                "but a server takes token ids alone: use VllmReward or TransformersReward"
            )
        reward = cls(replicas, served.name, rendering, served=served)
        # a server that does not score is detected now, and not after the first samples
        probe = tuple(rendering.tokenizer.encode("a"))
        try:
            logits = replicas.call(reward._logits(probe, affinity=b""))
        except ConfigError as refused:
            reward = replace(reward, classifies=False)
            try:
                logits = replicas.call(reward._logits(probe, affinity=b""))
            except ConfigError:
                raise refused from None
        names = label_names(config) if config is not None else ()
        if len(names) != len(logits):  # not known, or not those of the model
            names = default_names(len(logits))
        reader = choice.reader(f"{served.name!r} at {replicas!r}", names)
        return replace(reward, reader=reader)

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal by the model and by the rendering of its input.

        The model is identified by what the server reports (`ServedModel.identity`), not by its
        address.
        """
        model = self.served.identity if self.served else self.model
        return f"server {model} {self.rendering.fingerprint}{self.reader.fingerprint}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The model's score of a complete or partial response; see `Reward`."""
        tokens = self.rendering.tokens(prompt, response)
        affinity = hashlib.blake2b(repr(prompt.messages).encode(), digest_size=8).digest()
        try:
            logits = await self._logits(tokens, affinity=affinity)
        except PolicyError as died:
            raise RewardError(str(died), prompt=prompt, response=response) from died
        return self.reader.scored(logits, len(tokens))

    def close(self) -> None:
        """Closes the connections; the servers keep running."""
        self.replicas.close()

    async def _logits(self, tokens: Tokens, *, affinity: bytes) -> list[float]:
        """The logits of the labels, ``(labels,)``."""
        request: dict[str, Any] = {"model": self.model, "input": list(tokens)}
        request["use_activation"] = False
        path = "/classify"
        if not self.classifies:
            path, request["task"] = "/pooling", "token_classify"

        async def send(client: "AsyncOpenAI") -> Any:
            return await client.post(path, cast_to=object, body=request)

        answer = await self.replicas.ask(send, affinity=affinity)
        (scored,) = answer["data"]
        logits: list[float] = scored["probs"] if self.classifies else scored["data"][-1]
        return logits


def _config_of(served: ServedModel) -> Any:
    """The model's configuration; None if it is not on this machine and not on the Hub."""
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(served.root, trust_remote_code=False)
    except (OSError, ValueError):
        return None
