"""Searches over prefixes: of the drafts of a round those of highest reward go on.

They use the rounds of a population without its weights: which draft goes on is decided by the
partial rewards, not at random. All of them share three rules. A complete draft stays in the pool
that the answer is chosen from, whatever the reward of open ones. It is never drawn on, and never
copied. Of equal rewards the draft with the lower number counts as higher. What a constraint
excludes is dropped at once; if nothing else is left, the answer is an abstention.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rsalign.core.protocols import Boundary
from rsalign.core.run import Run
from rsalign.core.tasks import concurrently
from rsalign.core.trace import Verdict
from rsalign.core.types import Candidate, Prompt
from rsalign.populations.particle import commit_shared
from rsalign.selectors.protocol import Selector

SEARCH_NOTES = {
    "num_rounds": "segments of the longest draft",
    "num_complete": "complete answers that the choice was among",
    "rewards": "of the complete answers",
}
"""What the notes of a search mean (`rsalign.core.capabilities.note_meanings`)."""

NONE_ALLOWED = "the constraint allows none of the drafts"
"""Why a search abstains."""


@dataclass(slots=True, kw_only=True)
class Search:
    """The drafts of one prompt, round by round.

    Attributes:
        prompt: what is answered.
        run: the run at whose address the rounds are.
        max_tokens: greatest length of a whole answer.
        open: prefixes that go on; None stands for an answer of which nothing was drawn.
        complete: all complete answers so far, in the order of rounds and numbers.
        num_rounds: rounds so far.
    """

    prompt: Prompt
    run: Run
    max_tokens: int
    open: list[Candidate | None] = field(default_factory=lambda: [None])
    complete: list[Candidate] = field(default_factory=list)
    num_rounds: int = 0
    _fresh: dict[int, Candidate] = field(default_factory=dict)

    async def draw(self, boundary: Boundary | None, copies: int = 1) -> list[Candidate]:
        """Draws a segment after each open prefix, `copies` times, all at once.

        Returns:
            The drafts: `copies` of the first open prefix, then those of the second and so on.
        """
        here = self.run.at("round", self.num_rounds)
        self._fresh = {}

        async def draft(i: int) -> None:
            kept, copy = self.open[i // copies], i % copies
            response = kept.response if kept else None
            self._fresh[i] = await here.at("particle", i).draft(
                self.prompt,
                response.tokens if response else (),
                max_tokens=self.max_tokens,
                boundary=boundary,
                kept_log_probs=response.log_probs if response else None,
                # tokens drawn past the end of a prefix serve one of its copies only
                ahead=response.beyond if response and not copy else None,
            )

        await concurrently(draft(i) for i in range(copies * len(self.open)))
        return [self._fresh[i] for i in sorted(self._fresh)]

    def take(self, drafts: Sequence[Candidate], chosen: Sequence[int], copies: int = 1) -> None:
        """Ends a round: the chosen open drafts go on, and all complete ones are kept.

        Args:
            drafts: of this round, as `draw` returned them.
            chosen: numbers of the drafts that go on, in the order of their places.
            copies: as in `draw`.
        """
        here = self.run.at("round", self.num_rounds)
        going = set(chosen)
        for i, candidate in enumerate(drafts):
            kept = self.open[i // copies]
            stays = i in going or (candidate.response.complete and not candidate.excluded)
            self.run.record_proposal(
                candidate,
                verdict=Verdict.ACCEPTED if stays else Verdict.REJECTED,
                kept=len(kept.tokens) if kept else 0,
                address=here.at("particle", i).key.path,
            )
        self.complete += [one for one in drafts if one.response.complete and not one.excluded]
        self.open = [drafts[i] for i in chosen if not drafts[i].response.complete]
        self.num_rounds += 1
        self._fresh = {}

    def complete_so_far(self) -> list[Candidate]:
        """Complete answers, those of a round that was ended early included."""
        fresh = [self._fresh[i] for i in sorted(self._fresh)]
        return self.complete + [one for one in fresh if one.response.complete and not one.excluded]

    def commit(self) -> None:
        """Streams what all possible answers begin with."""
        possible = [one.tokens if one else () for one in (*self.complete, *self.open)]
        commit_shared(possible, self.run.trace)


def ranking(drafts: Sequence[Candidate]) -> list[int]:
    """Numbers of the allowed drafts, the highest reward first; of equal ones the lower number."""
    allowed = (i for i, draft in enumerate(drafts) if not draft.excluded)
    return sorted(allowed, key=lambda i: (-drafts[i].reward, i))


async def search_beams(
    search: Search, segmenter: Boundary, *, width: int, branch: int, streams: bool
) -> None:
    """Step beam search: of all drafts of a round those of highest reward take the open places.

    There are `width` places. A complete draft that takes one keeps it, so that the search ends when
    all places are taken by complete answers, or no prefix is open.

    Args:
        search: at its start.
        segmenter: where segments end.
        width: number of places.
        branch: drafts for each place; the first round has ``width * branch`` of them.
        streams: whether to commit what all drafts begin with.
    """
    places, copies = width, width * branch
    while search.open:
        drafts = await search.draw(segmenter, copies)
        chosen = ranking(drafts)[:places]
        places -= sum(drafts[i].response.complete for i in chosen)
        search.take(drafts, chosen, copies)
        copies = branch
        if streams:
            search.commit()


async def choose_complete(
    prompt: Prompt, complete: Sequence[Candidate], select: Selector, run: Run, num_rounds: int
) -> Candidate | None:
    """Chooses the answer among complete ones, and records the choice; None if there is none."""
    if not complete:
        return None
    selection = await select.select(prompt, complete, run.key.child("answer"))
    chosen, prob = complete[selection.index], selection.probs[selection.index]
    run.trace.note(
        num_rounds=num_rounds,
        num_complete=len(complete),
        rewards=tuple(float(one.reward) for one in complete),
        **selection.notes,
    )
    # it competes with no segment: nothing else was drawn on all of its tokens
    run.record_proposal(chosen, verdict=Verdict.ACCEPTED, prob=prob, kept=len(chosen.tokens))
    return chosen
