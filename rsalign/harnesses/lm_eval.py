"""`rsalign` as a model of lm-evaluation-harness.

Generated responses are aligned. Log-likelihoods are those of the policy itself (exact, at
temperature 1, as for lm-eval's other models), because the likelihood of an aligned response cannot
be computed.

In Python: ``simple_evaluate(model=AlignedLM(policy=..., reward=..., strategy="cards"), ...)``.
"""

import logging
import math
from collections import Counter
from collections.abc import Coroutine, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from lm_eval.api.registry import MODEL_REGISTRY, register_model
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tqdm import tqdm

from rsalign.aligner import AlignedOutput
from rsalign.core.checks import quote
from rsalign.core.errors import ConfigError, EngineError, PolicyError, RsalignError
from rsalign.core.foreign import describe_error, errors_as
from rsalign.core.protocols import Likelihood, Ranked
from rsalign.core.tasks import concurrently
from rsalign.core.types import Tokens
from rsalign.engines.loop_thread import LoopThread
from rsalign.harnesses.generation import Generation
from rsalign.harnesses.policy_text import Conversation, PolicyText, UnreadableError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

logger = logging.getLogger(__name__)
T = TypeVar("T")

_MAX_OPEN_REQUESTS = 512
"""Greatest number of open log-likelihood requests; more would only wait in the engine's queue."""


class AlignedLM(PolicyText):
    """An aligner as a model of lm-eval; it takes the arguments of `PolicyText`.

    All requests of a call are sent to the engine concurrently, so no batch size is needed. The
    random seeds of a request depend only on the seed, the task's name, the document and the number
    of the repeat, not on what else is evaluated.

    Example:
        >>> from lm_eval import simple_evaluate
        >>> model = AlignedLM(strategy="best_of", n=4)  # doctest: +SKIP
        >>> simple_evaluate(model=model, tasks=["gsm8k"])  # doctest: +SKIP
    """

    def generate_until(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[str]:
        """Aligned responses; a request that fails gets an empty one, which counts as wrong.

        Raises:
            ConfigError: if the task's settings cannot be honoured; raised before sampling.
            RsalignError: if all requests fail.
        """
        laws = [
            Generation.read(
                request.args[1],
                max_tokens=self.arguments.max_gen_toks,
                strategy=self.arguments.strategy,
            )
            for request in requests
        ]
        names, failures = _names(requests), Failures(len(requests))
        prompts: dict[str, dict[str, Any]] = {}
        for request, name in zip(requests, names, strict=True):
            try:
                prompts[name] = self._prompt(request.args[0]) | {"id": name}
            except UnreadableError as error:
                failures.add(name, error)
        asked = dict(zip(names, requests, strict=True))
        bar = tqdm(total=len(requests), desc="Aligned answers", disable=disable_tqdm)
        texts: dict[str, str] = {}

        def keep(answer: AlignedOutput) -> None:
            bar.update()
            if answer.error is not None:
                failures.add(answer.request_id, answer.error)
                return
            request = asked[answer.request_id]
            texts[answer.request_id] = answer.outputs[0].text
            self.cache_hook.add_partial("generate_until", request.args, answer.outputs[0].text)

        with bar:
            if prompts:
                given = [law for law, name in zip(laws, names, strict=True) if name in prompts]
                self._wait(
                    self.aligner.agenerate(
                        list(prompts.values()), given, on_result=keep, on_error="return"
                    )
                )
        failures.check()
        return [texts.get(name, "") for name in names]

    def loglikelihood(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-probabilities under the policy; a request that fails gets minus infinity.

        Raises:
            ConfigError: if the policy cannot compute log-probabilities.
            RsalignError: if all requests fail.
        """
        try:
            scores: list[tuple[float, bool]] = super().loglikelihood(list(requests), disable_tqdm)
        except UnreadableError:  # find the requests that cause it, and score the others
            failures = Failures(len(requests))
            readable: list[tuple[int, Instance]] = []
            for i, (request, name) in enumerate(zip(requests, _names(requests), strict=True)):
                try:
                    self.tok_encode("".join(request.args))
                    readable.append((i, request))
                except UnreadableError as error:
                    failures.add(name, error)
            failures.check()
        else:
            return scores
        found = super().loglikelihood([request for _, request in readable], disable_tqdm)
        scores = [(-math.inf, False)] * len(requests)
        for (i, _), score in zip(readable, found, strict=True):
            scores[i] = score
        return scores

    def loglikelihood_rolling(
        self, requests: "Sequence[Instance]", disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probabilities of whole texts under the policy, each token given all before it.

        A text that fails gets minus infinity.

        Raises:
            ConfigError: if the policy cannot compute log-probabilities.
            RsalignError: if all requests fail.
        """
        failures, sums = Failures(len(requests)), [0.0] * len(requests)
        windows = []
        for i, (request, name) in enumerate(zip(requests, _names(requests), strict=True)):
            try:
                tokens = self.tok_encode(request.args[0], add_special_tokens=False)
            except UnreadableError as error:
                failures.add(name, error)
                sums[i] = -math.inf
                continue
            windows += [
                (i, ("", ""), *make_disjoint_window(window))
                for window in get_rolling_token_windows(
                    token_list=tokens,
                    prefix_token=self.prefix_token_id,
                    max_seq_len=self.tokenization.max_model_len
                    - 2,  # vLLM needs room for one sampled token
                    context_len=1,
                )
            ]
        failures.check()
        scored = self._loglikelihood_tokens([one[1:] for one in windows], disable_tqdm=disable_tqdm)
        for (i, *_), (log_prob, _) in zip(windows, scored, strict=True):
            sums[i] += log_prob
        for request, log_prob in zip(requests, sums, strict=True):
            if log_prob > -math.inf:
                self.cache_hook.add_partial("loglikelihood_rolling", request.args, log_prob)
        return sums

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        disable_tqdm: bool = False,
        **kwargs: Any,
    ) -> list[tuple[float, bool]]:
        policy = self.aligner.policy
        if not isinstance(policy, Likelihood):
            raise ConfigError(
                f"{type(policy).__name__} cannot tell log-probabilities of given tokens, which "
                "this task asks for: only tasks of output_type generate_until are possible"
            )
        bar = tqdm(total=len(requests), desc="Log-likelihoods", disable=disable_tqdm)
        failures = Failures(len(requests))

        def failed(failure: BaseException) -> PolicyError:
            return PolicyError(f"the policy raised {describe_error(failure)}")

        async def one(
            asked: tuple[str, str], context: list[int], continuation: list[int]
        ) -> tuple[float, bool]:
            try:
                self.tokenization.check((*context, *continuation))
                with errors_as(failed):
                    scored = await policy.log_probs(tuple(context), tuple(continuation))
            except RsalignError as error:
                failures.add(quote("".join(asked)), error)
                return -math.inf, False
            found = sum(scored), all(map(_greedy, scored))
            if any(asked):  # parts of a longer text are cached when they are summed
                self.cache_hook.add_partial("loglikelihood", asked, found)
            bar.update()
            return found

        with bar:
            found = self._wait(
                concurrently(
                    (one(*request) for request in requests),
                    limit=min(len(requests), _MAX_OPEN_REQUESTS),
                )
            )
        failures.check()
        return found

    def _prompt(self, context: str) -> dict[str, Any]:
        tokens: Tokens = tuple(self.tok_encode(context))
        if not isinstance(context, Conversation):
            return {"prompt": context, "prompt_token_ids": tokens}
        if context.messages[-1].role == "assistant" and self.arguments.reward is not None:
            raise ConfigError(
                "the task begins the assistant's turn (gen_prefix), which a reward model's chat "
                "template cannot go on from: leave out --apply_chat_template, or use "
                "strategy=plain with reward=None"
            )
        return {"messages": context.messages, "prompt_token_ids": tokens}

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._loop.call(coroutine)

    @cached_property
    def _loop(self) -> LoopThread:
        return LoopThread("rsalign-lm-eval")


class Failures:
    """Collects the requests of one lm-eval call that failed by themselves; they count as wrong.

    Each failure is logged with the request's name when it is added.

    Args:
        num_requests: number of requests in the call.
    """

    def __init__(self, num_requests: int) -> None:
        self._num_requests = num_requests
        self._errors: list[RsalignError] = []

    def add(self, name: str, error: RsalignError) -> None:
        """Adds a failed request.

        Raises:
            EngineError: if `error` is one, since no other request will be answered either.
        """
        if isinstance(error, EngineError):
            raise error
        logger.error("request %s failed and counts as wrong: %s", name, error)
        self._errors.append(error)

    def check(self) -> None:
        """Raises the first failure if all requests failed, and else logs their number.

        Raises:
            RsalignError: the first failure, if all requests failed.
        """
        if self._errors and len(self._errors) == self._num_requests:
            raise self._errors[0]
        if self._errors:
            logger.error(
                "%d of %d requests failed and count as wrong", len(self._errors), self._num_requests
            )


def register() -> None:
    """Registers `rsalign` with lm-eval, for releases that do not read entry points."""
    if "rsalign" not in MODEL_REGISTRY:
        register_model("rsalign")(AlignedLM)


def _greedy(log_prob: float) -> bool:
    if not isinstance(log_prob, Ranked):
        raise ConfigError(
            "the policy tells log-probabilities, but not whether greedy decoding would have taken "
            "these tokens, which lm-eval asks for: use VllmPolicy or VllmServerPolicy"
        )
    return log_prob.rank == 1


def _names(requests: "Sequence[Instance]") -> list[str]:
    """Names that the random seeds depend on: task, document and number of the repeat."""
    seen: Counter[str] = Counter()
    names = []
    for request in requests:
        place = f"{request.task_name}/{request.doc_id}"
        names.append(f"{place}/{seen[place]}")
        seen[place] += 1
    return names
