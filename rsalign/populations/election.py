"""The answer: one complete particle, chosen by a selector that knows the weights."""

import math
from collections.abc import Sequence

from rsalign.chains.history import merge_weighted
from rsalign.core.run import Run
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt
from rsalign.populations.particle import Particle, normalised
from rsalign.populations.resampling import Resampling
from rsalign.selectors.protocol import Selection, Selector, WeighingSelector


async def elect(
    prompt: Prompt,
    particles: Sequence[Particle],
    select: Selector,
    resample: Resampling,
    run: Run,
) -> Candidate | None:
    """Chooses the answer, and records the choice; returns None if no particle can be the answer.

    A selector that can weigh is given each distinct answer once, with N times its weight. Any other
    is given N answers that are resampled by weight.

    Args:
        prompt: what is answered.
        particles: ``(particles,)``; only complete ones with a weight above 0 can be the answer.
        select: the selector.
        resample: the rule for selectors that cannot weigh.
        run: the strategy's own.
    """
    possible = [one for one in particles if one.is_complete and one.log_weight > -math.inf]
    if not possible:
        return None
    weights = normalised([particle.log_weight for particle in possible])
    parts = [
        (particle.candidate, weight * len(possible))
        for particle, weight in zip(possible, weights, strict=True)
        if particle.candidate is not None  # complete ones have one
    ]
    candidates: Sequence[Candidate]
    if isinstance(select, WeighingSelector):
        sample = merge_weighted(parts)
        candidates = sample.candidates
        selection: Selection = await select.select(
            prompt, candidates, run.key.child("answer"), weights=sample.weights
        )
    else:
        places = resample.ancestors(weights, run.key.child("answers"))
        candidates = [parts[i][0] for i in places]
        selection = await select.select(prompt, candidates, run.key.child("answer"))
    chosen, prob = candidates[selection.index], selection.probs[selection.index]
    run.trace.note(**selection.notes)
    # it competes with no segment: nothing else was drawn on all of its tokens
    run.record_proposal(chosen, verdict=Verdict.ACCEPTED, prob=prob, kept=len(chosen.tokens))
    return chosen
