"""What a draft saves: a large target with a small draft, next to the target alone.

Both models run in one process, as two engines that share its memory, and all prompts at once. The
chains are compared by effective samples per second: `QAlign` with suffixes of the draft and with
suffixes of the target, which have the same law.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from rsalign.aligner import Aligner
from rsalign.bench.grown import count_parameters
from rsalign.core.budget import Usage
from rsalign.core.protocols import Strategy
from rsalign.embedded.problems import problems
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.vllm import VllmReward
from rsalign.segments.conformal import Conformal
from rsalign.segments.segmenters import FixedSize
from rsalign.strategies.gsi import Gsi
from rsalign.strategies.plain import Plain
from rsalign.strategies.qalign import QAlign
from rsalign.strategies.rsd import Rsd
from rsalign.strategies.speculate import Speculate

_MAX_TOKENS = 96
_SEGMENT = FixedSize(16)


def report(
    policy: str, draft: str, reward: str, *, prompts: int, steps: int, beta: float
) -> Iterator[str]:
    """Lines of the report, as they are known.

    Args:
        policy: folder of the target.
        draft: folder of the draft, with the same tokenizer.
        reward: folder of the reward model.
        prompts: number of prompts, answered at once.
        steps: of each chain.
        beta: divides the reward in chains and in `Gsi`.
    """
    share = count_parameters(draft) / count_parameters(policy)
    yield f"a token of the draft is priced at {share:.3f} of one of the target (parameters)"
    conversations = [
        [{"role": "user", "content": problem.question}] for problem in problems("heldout", prompts)
    ]
    with contextlib.ExitStack() as stack:
        target, small, judge = (
            stack.enter_context(contextlib.closing(start(model)))
            for start, model in (
                (VllmPolicy.start, policy),
                (VllmPolicy.start, draft),
                (VllmReward.start, reward),
            )
        )
        aligner = stack.enter_context(Aligner(target, judge, parts={"draft": small}))
        alone = None
        for name, strategy in _strategies(beta).items():
            seconds, outputs = _timed(aligner, strategy, conversations)
            alone = alone or seconds
            yield f"{name:<22} {_spent(outputs, seconds, share)}   {alone / seconds:.2f} x target"
        rates = {}
        for proposal in ("policy", "draft"):
            chain = QAlign(steps=steps, beta=beta, max_tokens=_MAX_TOKENS, proposal=proposal)
            seconds, outputs = _timed(aligner, chain, conversations)
            sizes = [one.alignment.diagnostics["ess_reward"] or 0.0 for one in outputs]
            rates[proposal] = sum(sizes) / seconds
            yield (
                f"suffixes of {'the target' if proposal == 'policy' else 'the draft':<12} "
                f"{_spent(outputs, seconds, share)}   {sum(sizes):.0f} effective samples, "
                f"{rates[proposal]:.2f} a second"
            )
        yield f"effective samples a second, draft / target = {rates['draft'] / rates['policy']:.2f}"
        chain = QAlign(steps=max(1, steps // 8), max_tokens=_MAX_TOKENS, proposal="draft")
        together, _ = _timed(aligner, chain, conversations)
        apart = sum(_timed(aligner, chain, [one])[0] for one in conversations)
        yield (
            f"{prompts} prompts at once take {together / apart:.2f} of the time of one after the "
            "other"
        )


def _strategies(beta: float) -> dict[str, Strategy]:
    shared: dict[str, Any] = {"segmenter": _SEGMENT, "max_tokens": _MAX_TOKENS}
    rule = Conformal(alpha=0.25, draws=3)
    return {
        "target alone": Plain(max_tokens=_MAX_TOKENS),
        "Speculate": Speculate(**shared | {"segmenter": FixedSize(4)}),
        "Rsd": Rsd(acceptance=rule, **shared),
        "Gsi(n=2)": Gsi(n=2, beta=beta, acceptance=rule, **shared),
    }


def _timed(aligner: Aligner, strategy: Strategy, conversations: list[Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    outputs = aligner.chat(conversations, strategy=strategy, use_tqdm=False)
    return time.perf_counter() - started, outputs


def _spent(outputs: Any, seconds: float, share: float) -> str:
    """Tokens of both models, acceptance and answers a second."""
    usage = sum((output.alignment.usage for output in outputs), Usage())
    of_draft = usage.parts.get("draft", Usage()).policy_tokens_drawn
    rates = [output.alignment.diagnostics.get("acceptance_rate") for output in outputs]
    known = [rate for rate in rates if rate is not None]
    accepted = f"accepted {sum(known) / len(known):.0%}, " if known else ""
    priced = usage.policy_tokens_drawn + share * of_draft
    return (
        f"{usage.policy_tokens_drawn:,} tokens of the target, {of_draft:,} of the draft "
        f"({priced:,.0f} priced), {accepted}{len(outputs) / seconds:.2f} answers/s"
    )
