"""Tables of speed and token-forwards."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import fmean

from eval.bench.measured import Looped, MeasuredRow, asked_alike
from rsalign.core.protocols import Scored
from rsalign.core.trace import Verdict

_LEAST_DRAFTS = 20  # a mean over fewer is not shown


def per_answer(
    rows: Sequence[MeasuredRow], looped: Sequence[Looped], open_at_once: int
) -> Iterator[str]:
    """Every method at one concurrency, and how many times better it is than the loop."""
    same = asked_alike(rows[0], looped)
    speed = 1 / fmean(one.spent.seconds for one in same)
    policy = fmean(one.spent.policy_forwards for one in same)
    reward = fmean(one.spent.reward_forwards for one in same)
    drawn = fmean(one.spent.tokens_drawn for one in same)
    yield ""
    yield (
        f"{len(rows[0].problems)} prompts, {open_at_once} open at once, median of "
        f"{len(rows[0].seconds)} repeats; forwards: tokens for which a model ran;"
    )
    yield f"in brackets: how many times better than the loop, which answered {len(same)} of them"
    yield (
        f"{'per answer':<16}{'answers/s':>10}{'':8}{'policy forwards':>16}{'':8}"
        f"{'reward forwards':>16}{'':8}{'tokens drawn':>12}"
    )
    for row in rows:
        faster = row.answers_per_second / speed
        ours, judged = row.policy_forwards / len(row.flat), row.reward_forwards / len(row.flat)
        yield (
            f"{row.name:<16}{row.answers_per_second:>10.2f}{_times(faster):<8}"
            f"{ours:>16.0f}{_times(policy / ours):<8}"
            f"{judged:>16.0f}{_times(reward / judged) if judged else '':<8}{row.drawn:>12.1f}"
        )
    yield (
        f"{'the loop':<16}{speed:>10.2f}{'':8}{policy:>16.0f}{'':8}{reward:>16.0f}{'':8}"
        f"{drawn:>12.1f}"
    )


def of_policy(row: MeasuredRow, looped: Sequence[Looped], block_size: int) -> Iterator[str]:
    """What the policy's token-forwards are made of."""
    total = row.policy_forwards / len(row.flat)
    requests = fmean(answer.alignment.usage.policy_requests for answer in row.flat)
    prompt = fmean(len(answer.prompt_token_ids) for answer in row.flat)
    again = total - row.drawn - prompt
    loop = fmean(one.spent.policy_forwards for one in asked_alike(row, looped))
    yield ""
    yield (
        f"{row.name}, {len(row.problems)} prompts: of {total:.0f} policy token-forwards "
        f"{row.drawn:.0f} are tokens drawn, {prompt:.0f} the prompt and {again:.0f} read again"
    )
    yield (
        f"({again / requests:.1f} for each of {requests:.1f} requests: whole blocks of "
        f"{block_size} tokens are cached). Were none read again, the loop's would be "
        f"{loop / (total - again):.0f} times as many"
    )


def of_reward(row: MeasuredRow) -> Iterator[str]:
    """What it costs to judge a draft of the k-th segment, with and without a prefix cache."""
    given: defaultdict[int, list[int]] = defaultdict(list)
    computed: defaultdict[int, list[int]] = defaultdict(list)
    for answer in row.flat:
        number = 1
        for proposal in answer.alignment.trace.proposals:
            reward = proposal.candidate.reward
            # what is forced was judged before
            if proposal.verdict is not Verdict.FORCED and isinstance(reward, Scored):
                given[number].append(reward.tokens)
                computed[number].append(reward.tokens - reward.cached_tokens)
            number += proposal.verdict is not Verdict.REJECTED
    yield ""
    yield f"{'reward model, ' + row.name:<26}{'tokens given':>14}{'computed':>10}{'drafts':>8}"
    for number in sorted(given):
        if len(given[number]) >= _LEAST_DRAFTS:
            yield (
                f"{f'draft of segment {number}':<26}{fmean(given[number]):>14.1f}"
                f"{fmean(computed[number]):>10.1f}{len(given[number]):>8}"
            )


def _times(ratio: float) -> str:
    return f" ({ratio:.{1 if ratio < 100 else 0}f})"
