"""A sequence-classification reward model behind vLLM's pooling server."""

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.protocols import Scored
from rsalign.core.types import Prompt, Response, Tokens
from rsalign.engines.answers import ServedModel
from rsalign.engines.remote import Replicas
from rsalign.rewards.rendering import Rendering

if TYPE_CHECKING:
    from openai import AsyncOpenAI


@dataclass(frozen=True, slots=True)
class RemoteReward:
    """The raw score (no sigmoid) of a model with one label, by ``/classify``.

    The chat template is applied here, by the reward model's own tokenizer, and token ids are sent:
    in float32 the value is that of `VllmReward`. The server does not tell what it had cached.

    Attributes:
        replicas: where requests go. One prompt's go to one replica, whose prefix cache knows it.
        model: what the server calls the model.
        rendering: the reward model's tokenizer, chat template and context.
        served: what the server says that the model is; None: its name is all that is known.
    """

    replicas: Replicas
    model: str
    rendering: Rendering = field(repr=False)
    served: ServedModel | None = field(default=None, repr=False, kw_only=True)

    @classmethod
    def connect(
        cls,
        addresses: str | Sequence[str],
        *,
        model: str | None = None,
        tokenizer: Any = None,
        api_key: str | None = None,
        timeout_seconds: float = 300.0,
        retries: int = 4,
        max_open: int = 256,
    ) -> "RemoteReward":
        """Connects to ``vllm serve MODEL --runner pooling``, or to several of the same model.

        Args:
            addresses: ``"http://host:port"``, with or without ``/v1``, or a list of them.
            model: one of those served; default: the only one.
            tokenizer: id, path or a Hugging Face tokenizer; default: what the server says.
            api_key: default: the environment's OPENAI_API_KEY, if any.
            timeout_seconds: longest silence of a server that has taken a request.
            retries: number of rounds through the replicas after the first.
            max_open: greatest number of requests that are open at one replica; more wait here.

        Raises:
            InstallError: if the package `openai` is missing.
            ConfigError: if an argument cannot work, the model or its tokenizer is not found, or the
                server does not classify by one label.
            PolicyError: if no server answers.
        """
        replicas = Replicas(
            addresses,
            api_key=api_key,
            timeout_seconds=timeout_seconds,
            retries=retries,
            max_open=max_open,
        )
        served = replicas.call(replicas.served(model))
        rendering = Rendering(served.tokenizer(tokenizer), served.max_model_len or sys.maxsize)
        reward = cls(replicas, served.name, rendering, served=served)
        # a server of another kind is found out now, and not after the first draws
        probe = tuple(rendering.tokenizer.encode("a"))
        replicas.call(reward._classify(probe, affinity=b""))
        return reward

    @property
    def fingerprint(self) -> str:
        """Tells this reward from others in a journal: the model, and how it is asked.

        The model is what the server says that it is (`ServedModel.identity`), whatever its address.
        """
        model = self.served.identity if self.served else self.model
        return f"server {model} {self.rendering.fingerprint}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The model's score of the response, open or finished; see `Reward`."""
        tokens = self.rendering.tokens(prompt, response)
        affinity = hashlib.blake2b(repr(prompt.messages).encode(), digest_size=8).digest()
        try:
            value = await self._classify(tokens, affinity=affinity)
        except PolicyError as died:
            raise RewardError(str(died), prompt=prompt, response=response) from died
        return Scored(value, tokens=len(tokens))

    def close(self) -> None:
        """Ends the connections; the servers run on."""
        self.replicas.close()

    async def _classify(self, tokens: Tokens, *, affinity: bytes) -> float:
        request = {"model": self.model, "input": list(tokens), "use_activation": False}

        async def send(client: "AsyncOpenAI") -> Any:
            return await client.post("/classify", cast_to=object, body=request)

        answer = await self.replicas.ask(send, affinity=affinity)
        scores: list[float] = answer["data"][0]["probs"]
        if len(scores) != 1:
            raise ConfigError(
                f"{self.model!r} at {self.replicas!r} has {len(scores)} labels, but a reward model "
                "has 1: serve one that was trained as a reward"
            )
        return scores[0]
