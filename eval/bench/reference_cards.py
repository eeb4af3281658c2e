"""CARDS as its paper writes it, one token at a time; `python -m eval.bench cards` compares with it.

The published loop (Li et al. 2024, arXiv:2406.16306; no key-value cache, batch size 1): every token
is drawn after a forward pass over everything before it, every draft is scored by a pass over the
whole text, and the pass that finds a segment's end is made again by whoever goes on from there.
Its law is that of `rsalign.strategies.cards.Cards`, whose settings it takes and whose departures
from the published code it shares (EOS and `max_tokens` end an answer; the best of the rejected is
forced; beta is no temperature; the reward model has its own template), so that nothing but the cost
differs.
"""

import math
import time
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol

from rsalign.core.errors import ConfigError
from rsalign.core.key import Key
from rsalign.core.protocols import Scored
from rsalign.core.types import Candidate, Prompt, Response, Stop, Tokens
from rsalign.policies.tokenization import Tokenization
from rsalign.rewards.rendering import Rendering
from rsalign.strategies.cards import Cards


class NextToken(Protocol):
    """The distribution of one token."""

    @property
    def entropy(self) -> float:
        """Nats."""
        ...

    def draw(self, key: Key) -> int:
        """Draws a token."""
        ...


class Models(Protocol):
    """A language model and a reward model without memory: each call computes all it is given."""

    @property
    def eos(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    def after(self, tokens: Tokens) -> NextToken:
        """The law of the token after these."""
        ...

    def score(self, prompt: Prompt, response: Response) -> Scored:
        """The reward, which knows how many tokens it took."""
        ...

    def text(self, tokens: Tokens) -> str:
        """Decodes a whole response; special tokens are left out."""
        ...


@dataclass(slots=True, kw_only=True)
class Spent:
    """What an answer took.

    Attributes:
        seconds: wall-clock time.
        tokens_drawn: those of rejected drafts included.
        policy_forwards: tokens for which the language model ran, over all its passes.
        reward_forwards: tokens for which the reward model ran.
        num_segments: of the answer.
        num_tested: drafts.
        num_forced: segments that were taken without being accepted.
    """

    seconds: float = 0.0
    tokens_drawn: int = 0
    policy_forwards: int = 0
    reward_forwards: int = 0
    num_segments: int = 0
    num_tested: int = 0
    num_forced: int = 0


@dataclass(frozen=True, slots=True)
class Reference:
    """The loop over one pair of models.

    Attributes:
        models: the pair.
        settings: of the method; drafts are tested one by one, whatever `proposals` says.

    Raises:
        ConfigError: if the settings ask for what the paper's loop does not have.
    """

    models: Models
    settings: Cards

    def __post_init__(self) -> None:
        asked = self.settings
        if asked.threshold is None or asked.when_exhausted != "best" or asked.hopeless_below:
            raise ConfigError(
                f"the reference loop cannot do {asked}: give a threshold, when_exhausted='best' "
                "and hopeless_below=0"
            )

    def answer(self, prompt: Prompt, key: Key) -> tuple[Candidate, Spent]:
        """Draws an answer; returns it with its cost."""
        started, spent, kept = time.perf_counter(), Spent(), Response((), "", None)
        prompt_reward = 0.0
        if self._threshold.needs_prompt_reward:
            prompt_reward = self._judge(prompt, kept, spent).reward
        while True:
            chosen = self._segment(prompt, kept, prompt_reward, key, spent)
            kept = chosen.response
            if kept.complete:
                spent.seconds = time.perf_counter() - started
                return chosen, spent

    @property
    def _threshold(self) -> Any:
        return self.settings.threshold

    def _segment(
        self, prompt: Prompt, kept: Response, prompt_reward: float, key: Key, spent: Spent
    ) -> Candidate:
        """What is kept and one more segment: the first draft accepted, or the best rejected."""
        rejected: list[Candidate] = []
        spent.num_segments += 1
        while len(rejected) < self.settings.max_tries:
            here = key.child("segment", len(kept.tokens), "try", len(rejected))
            draft = self._judge(prompt, self._draft(prompt, kept, here, spent), spent)
            bar = self._threshold.at(
                len(draft.tokens),
                prompt_reward=prompt_reward,
                max_tokens=self.settings.max_tokens,
            )
            log_accept = self.settings.acceptance.log_accept(draft.reward, bar)
            spent.num_tested += 1
            if here.child("accept").bernoulli(math.exp(log_accept)):
                return draft
            rejected.append(draft)
        spent.num_forced += 1
        return max(rejected, key=attrgetter("reward"))

    def _draft(self, prompt: Prompt, kept: Response, key: Key, spent: Spent) -> Response:
        """What is kept and one more segment, token by token."""
        segmenter, tokens, drawn = self.settings.segmenter, kept.tokens, 0
        while True:
            law = self.models.after(prompt.tokens + tokens)
            spent.policy_forwards += len(prompt.tokens) + len(tokens)
            entropy = law.entropy
            if drawn and segmenter.ends_before(drawn, entropy):
                return self._response(tokens, Stop.BOUNDARY)
            token = law.draw(key.child("token", drawn))
            tokens, drawn = (*tokens, token), drawn + 1
            spent.tokens_drawn += 1
            if token in self.models.eos:
                return self._response(tokens, Stop.EOS)
            if len(tokens) == self.settings.max_tokens:
                return self._response(tokens, Stop.LENGTH)
            text = self.models.text((token,))
            if drawn == segmenter.max_tokens or segmenter.ends_after(drawn, entropy, text):
                return self._response(tokens, Stop.BOUNDARY)

    def _response(self, tokens: Tokens, stop: Stop) -> Response:
        return Response(tokens, self.models.text(tokens), stop)

    def _judge(self, prompt: Prompt, response: Response, spent: Spent) -> Candidate:
        reward = self.models.score(prompt, response)
        spent.reward_forwards += reward.tokens
        return Candidate(response, reward)


class TransformersModels:
    """Both models by transformers in float32, without a cache; temperature 1, nothing truncated.

    Args:
        policy: Hugging Face id or path of a language model.
        reward: of a sequence classifier with one label.
        device: where both run.
    """

    def __init__(self, policy: str, reward: str, device: str = "cpu") -> None:
        import torch
        import transformers

        self._torch: Any = torch
        transformers.utils.logging.disable_progress_bar()
        self._language: Any = transformers.AutoModelForCausalLM.from_pretrained(
            policy, dtype="float32"
        )
        self._classifier: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
            reward, dtype="float32"
        )
        for model in (self._language, self._classifier):
            model.to(device).eval()
        # it would else score the last token that is not the padding, which EOS may be
        self._classifier.config.pad_token_id = None
        tokenizer = transformers.AutoTokenizer.from_pretrained(policy)
        self._tokenization = Tokenization(tokenizer, self._context(self._language))
        self._rendering = Rendering(
            transformers.AutoTokenizer.from_pretrained(reward), self._context(self._classifier)
        )
        declared = self._language.generation_config.eos_token_id
        eos = {declared} if isinstance(declared, int) else set(declared or ())
        self.eos = frozenset({*eos, tokenizer.eos_token_id} - {None})

    def after(self, tokens: Tokens) -> NextToken:
        """One pass over all of them."""
        return _Categorical(self._torch, self._logits(self._language, tokens)[0, -1])

    def score(self, prompt: Prompt, response: Response) -> Scored:
        """One pass over the whole text, in the reward model's own tokens and template."""
        tokens = self._rendering.tokens(prompt, response)
        return Scored(self._logits(self._classifier, tokens)[0, 0].item(), tokens=len(tokens))

    def text(self, tokens: Tokens) -> str:
        """As the policy's tokenizer decodes it."""
        return self._tokenization.text(tokens)

    def _logits(self, model: Any, tokens: Tokens) -> Any:
        with self._torch.inference_mode():
            inputs = self._torch.tensor([tokens], device=model.device)
            return model(input_ids=inputs, use_cache=False).logits

    @staticmethod
    def _context(model: Any) -> int:
        return int(model.config.max_position_embeddings)


@dataclass(frozen=True, slots=True)
class _Categorical:
    """A law by its logits, float32, ``(vocab,)``."""

    torch: Any
    logits: Any

    @property
    def entropy(self) -> float:
        return float(self.torch.distributions.Categorical(logits=self.logits).entropy())

    def draw(self, key: Key) -> int:
        generator = self.torch.Generator(self.logits.device).manual_seed(key.seed())
        return int(self.torch.multinomial(self.logits.softmax(-1), 1, generator=generator))
