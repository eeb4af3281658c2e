"""The log-likelihood ratio of two language models, as a reward of responses and of their steps.

Law      r(x, y) = beta (ln pi_1(y | x') - ln pi_2(y | x)) for any prefix y of a response. Up to a
         function of the prompt, it is the reward for which pi_1 maximises E r - beta KL(. || pi_2).
         The reward of a step is the part of the sum that belongs to its own tokens. Without pi_2,
         the reward is the scaled log-likelihood beta ln pi_1(y | x').
Papers   DPO: Rafailov et al. 2023, arXiv:2305.18290. As a process reward: Yuan et al. 2024,
         arXiv:2412.01981. Strong over weak, with instructions: Xu et al. 2024, arXiv:2411.02481.
Cost     one request to each model for the prompt and the whole response; nothing is sampled.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from rsalign.core.checks import above, check_settings, part
from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.protocols import Encoder, Likelihood, Policy, Scored
from rsalign.core.tasks import concurrently
from rsalign.core.types import Message, Prompt, Response, Tokens
from rsalign.rewards.parts import describe
from rsalign.rewards.steps import check_ends


@dataclass(frozen=True, slots=True)
class DensityRatio:
    """beta (ln pi_1 - ln pi_2) of a response or of each of its steps; beta times nats.

    Both models are given the same token ids, so they must have the same vocabulary. EOS counts if
    it was sampled. The step values add up to the value of the response (unless `per_token`). In
    float32, a value computed alone and one computed in a batch agree to 1e-3. `DensityRatio` does
    not close the models: one of them is often the policy that is being sampled from.

    Attributes:
        numerator: pi_1, the better model.
        denominator: pi_2, the model it is compared with; None: use the likelihood of pi_1 alone.
        beta: the factor of the log-ratio; ``exp(r / beta)`` is the ratio of the densities.
        numerator_prompt: maps a prompt to the tokens x' that pi_1 continues; None: the prompt's own
            tokens. See `Instructed`.
        per_token: divide by the number of tokens of the response (or of the step). A plain sum of
            log-likelihoods prefers short responses.

    Raises:
        ConfigError: if `beta` is not a positive number.

    Example:
        >>> import asyncio
        >>> from rsalign import Message, Prompt, Response
        >>> from rsalign.testing import ToyPolicy
        >>> reward = DensityRatio(ToyPolicy(salt=1), ToyPolicy(salt=2))
        >>> prompt, response = Prompt((Message("user", "1"),), (1,)), Response((2,), "2", None)
        >>> whole = asyncio.run(reward.score(prompt, response))
        >>> (step,) = asyncio.run(reward.score_steps(prompt, response, (1,)))
        >>> float(whole) == float(step)
        True
    """

    numerator: Likelihood
    denominator: Likelihood | None = None
    beta: float = 1.0
    numerator_prompt: Callable[[Prompt], Tokens] | None = None
    per_token: bool = False

    def __post_init__(self) -> None:
        model = part("a policy that has log_probs(); VllmPolicy does")
        to_reverse = "to reverse the ratio, exchange numerator and denominator"
        check_settings(self, numerator=model, denominator=model, beta=above(0.0, note=to_reverse))

    @property
    def fingerprint(self) -> str:
        """Identifies this reward in a journal."""
        models, settings = (self.numerator, self.denominator), (self.beta, self.per_token)
        return f"DensityRatio{describe((*models, *settings, self.numerator_prompt))}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The log-ratio of the whole response; 0 for one without tokens. See `Reward`.

        Raises:
            ConfigError: if the models have different vocabularies, or one cannot compute
                log-probabilities under its sampling parameters.
            RewardError: if an engine failed, or a token has probability 0.
        """
        if not response.tokens:
            return 0.0
        return (await self.score_steps(prompt, response, (len(response.tokens),)))[0]

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """The log-ratio of each step's own tokens, ``(steps,)``; the last carries the total cost.

        Tokens after the last end are ignored. Raises the errors of `score`, and:

        Raises:
            ConfigError: if `ends` do not increase within the response.
        """
        check_ends(response, ends)
        if not ends:
            return ()
        tokens = response.tokens[: ends[-1]]
        self._check_vocabulary(tokens)
        instructed = self.numerator_prompt or _own_tokens
        prefixes = [(self.numerator, instructed(prompt))]
        if self.denominator is not None:
            prefixes.append((self.denominator, prompt.tokens))
        try:
            log_probs = await concurrently(
                model.log_probs(prefix, tokens) for model, prefix in prefixes
            )
        except PolicyError as died:
            raise RewardError(str(died), prompt=prompt, response=response) from died
        ratios = [over - math.fsum(under) for over, *under in zip(*log_probs, strict=True)]
        for i, ratio in enumerate(ratios):
            if not math.isfinite(ratio):
                raise RewardError(
                    f"token {i} of {response.text!r} has log-density ratio {ratio}: a model gives "
                    "it no probability; use a law without truncation",
                    prompt=prompt,
                    response=response,
                )
        values = []
        for begin, end in zip((0, *ends), ends, strict=False):
            total = math.fsum(ratios[begin:end])
            values.append(self.beta * (total / (end - begin) if self.per_token else total))
        given = sum(len(prefix) + len(tokens) for _, prefix in prefixes)
        return (*values[:-1], Scored(values[-1], tokens=given))

    def _check_vocabulary(self, tokens: Tokens) -> None:
        """Refuses models that decode the same token ids to different texts."""
        models: tuple[object, ...] = (self.numerator, self.denominator)
        read = [model.text(tokens) for model in models if isinstance(model, Policy)]
        if len(set(read)) > 1:
            raise ConfigError(
                "numerator and denominator have different vocabularies: they read the same tokens "
                f"as {read[0]!r} and {read[1]!r}; give two models with one tokenizer"
            )


@dataclass(frozen=True, slots=True)
class Instructed:
    """Renders a prompt with an additional instruction, for `DensityRatio.numerator_prompt`.

    The instruction becomes the system message, or is put before the text of an existing one. The
    log-ratio of one model with and without an instruction rewards following the instruction (Xu et
    al. 2024, arXiv:2411.02481).

    Attributes:
        encoder: the policy that is the numerator.
        instruction: what a good response does; may contain examples.

    Example:
        >>> careful = Instructed(policy, "Check every step.")  # doctest: +SKIP
        >>> reward = DensityRatio(policy, policy, numerator_prompt=careful)  # doctest: +SKIP
    """

    encoder: Encoder
    instruction: str

    @property
    def fingerprint(self) -> str:
        """Identifies these prompts in a journal."""
        return f"Instructed{describe((self.encoder, self.instruction))}"

    def __call__(self, prompt: Prompt) -> Tokens:
        """Token ids of the instructed conversation."""
        first, *others = prompt.messages
        if first.role == "system":
            system = Message("system", f"{self.instruction}\n\n{first.content}")
            return self.encoder.encode_chat((system, *others))
        return self.encoder.encode_chat((Message("system", self.instruction), *prompt.messages))


def _own_tokens(prompt: Prompt) -> Tokens:
    return prompt.tokens
