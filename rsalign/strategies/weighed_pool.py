"""The choice among answers that come with weights, such as those of a draw without replacement."""

import math
from collections.abc import Sequence

from rsalign.core.run import Run
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt
from rsalign.selectors.protocol import Selection, Selector, WeighingSelector


async def choose_weighed(
    prompt: Prompt,
    answers: Sequence[Candidate],
    weights: Sequence[float],
    select: Selector,
    run: Run,
) -> Candidate | None:
    """Chooses among the allowed answers, and records all of them and the choice.

    A selector that weighs is given the weights, scaled so that they sum to the number of answers;
    any other sees each answer once. Notes: ``weights`` and ``rewards`` of the allowed answers,
    ``num_excluded``, and those of the selector.

    Args:
        prompt: what is answered.
        answers: complete and different, ``(answers,)``.
        weights: not negative, ``(answers,)``.
        select: the selector.
        run: the strategy's own.

    Returns:
        None if no answer is allowed; nothing is recorded as chosen then.
    """
    allowed = [i for i, one in enumerate(answers) if not one.excluded]
    candidates = [answers[i] for i in allowed]
    kept = [weights[i] for i in allowed]
    run.trace.note(
        weights=tuple(kept),
        rewards=tuple(float(one.reward) for one in candidates),
        num_excluded=len(answers) - len(allowed),
    )
    selection = await _select(prompt, candidates, kept, select, run) if candidates else None
    for i, one in enumerate(candidates):
        assert selection is not None  # there are candidates
        verdict = Verdict.ACCEPTED if i == selection.index else Verdict.REJECTED
        run.record_proposal(one, verdict=verdict, prob=selection.probs[i])
    for one in answers:
        if one.excluded:
            run.record_proposal(one, verdict=Verdict.REJECTED, prob=0.0)
    if selection is None:
        return None
    run.trace.note(**selection.notes)
    return candidates[selection.index]


async def _select(
    prompt: Prompt, candidates: list[Candidate], weights: list[float], select: Selector, run: Run
) -> Selection:
    key = run.key.child("select")
    if not isinstance(select, WeighingSelector):
        return await select.select(prompt, candidates, key)
    # above 0 even where a weight is below the least float
    total, least = math.fsum(weights), 1e-300
    scaled = [max(weight / total if total else 1.0, least) for weight in weights]
    return await select.select(
        prompt, candidates, key, weights=[one * len(candidates) for one in scaled]
    )
