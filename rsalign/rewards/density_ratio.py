"""The log-likelihood ratio of two language models as a reward of responses and of their steps.

Law      r(x, y) = beta (ln pi_1(y | x') - ln pi_2(y | x)) on any prefix y of a response: the reward
         under which pi_1 is the optimum of E r - beta KL(. || pi_2), up to a function of the
         prompt. A step's reward is its own tokens' part of the sum. Without pi_2 it is
         beta ln pi_1(y | x'), a plain likelihood.
Papers   DPO: Rafailov et al. 2023, arXiv:2305.18290. As a process reward: Yuan et al. 2024,
         arXiv:2412.01981. Strong over weak, with instructions: Xu et al. 2024, arXiv:2411.02481.
Cost     one request to each model, which reads the whole prompt and response.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from rsalign.core.checks import above, check_settings, part
from rsalign.core.errors import ConfigError, PolicyError, RewardError
from rsalign.core.protocols import Encoder, Likelihood, Policy, Scored
from rsalign.core.tasks import concurrently
from rsalign.core.types import Message, Prompt, Response, Tokens
from rsalign.rewards.parts import described
from rsalign.rewards.steps import check_ends


@dataclass(frozen=True, slots=True)
class DensityRatio:
    """beta (ln pi_1 - ln pi_2) of a response, or of each of its steps, nats times beta.

    Both models read the same token ids, so that they must share a vocabulary; EOS counts where it
    was drawn. Steps add up to the whole (unless `per_token`): a telescoping sum. In float32 the
    value is the same alone and in a batch to 1e-3. The models stay open: they belong to whoever
    made them, who often draws from one of them.

    Attributes:
        numerator: pi_1, the better model.
        denominator: pi_2, what it is compared with; None: the likelihood of pi_1 alone.
        beta: multiplies the ratio; ``exp(r / beta)`` is the ratio of the densities.
        numerator_prompt: the tokens x' that pi_1 continues; None: the prompt's own. See
            `Instructed`.
        per_token: divides by the number of tokens summed over, of the response or of the step;
            sums of likelihoods prefer short responses.

    Raises:
        ConfigError: if `beta` is not a positive number.
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
        """Tells this reward from others in a journal."""
        models, settings = (self.numerator, self.denominator), (self.beta, self.per_token)
        return f"DensityRatio{described((*models, *settings, self.numerator_prompt))}"

    async def score(self, prompt: Prompt, response: Response) -> float:
        """The ratio of the whole response; 0 where nothing was drawn yet. See `Reward`.

        Raises:
            ConfigError: if the models have different vocabularies, or one cannot tell likelihoods
                under its law.
            RewardError: if an engine failed, or gave a token no probability.
        """
        if not response.tokens:
            return 0.0
        return (await self.score_steps(prompt, response, (len(response.tokens),)))[0]

    async def score_steps(
        self, prompt: Prompt, response: Response, ends: tuple[int, ...]
    ) -> tuple[float, ...]:
        """The ratio of each step's own tokens, ``(steps,)``; the last knows the cost of all.

        Tokens after the last end are not read. Errors as in `score`, and:

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
        """Refuses models to which the same ids mean different texts, where they can tell."""
        models: tuple[object, ...] = (self.numerator, self.denominator)
        read = [model.text(tokens) for model in models if isinstance(model, Policy)]
        if len(set(read)) > 1:
            raise ConfigError(
                "numerator and denominator have different vocabularies: they read the same tokens "
                f"as {read[0]!r} and {read[1]!r}; give two models with one tokenizer"
            )


@dataclass(frozen=True, slots=True)
class Instructed:
    """A prompt's tokens with an instruction before it, for `DensityRatio.numerator_prompt`.

    The instruction becomes the system message, or goes before what that already says. The same
    model with and without it makes a reward for what the instruction demands (Xu et al. 2024,
    arXiv:2411.02481).

    Attributes:
        encoder: the numerator.
        instruction: what is demanded of a response; may hold examples of good ones.
    """

    encoder: Encoder
    instruction: str

    @property
    def fingerprint(self) -> str:
        """Tells these prompts from others in a journal."""
        return f"Instructed{described((self.encoder, self.instruction))}"

    def __call__(self, prompt: Prompt) -> Tokens:
        """Token ids of the instructed conversation."""
        first, *others = prompt.messages
        if first.role == "system":
            system = Message("system", f"{self.instruction}\n\n{first.content}")
            return self.encoder.encode_chat((system, *others))
        return self.encoder.encode_chat((Message("system", self.instruction), *prompt.messages))


def _own_tokens(prompt: Prompt) -> Tokens:
    return prompt.tokens
