"""What a strategy noted about its own run, as rows of a table and as votes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rsalign.core.trace import Note

_MEANINGS = {
    "acceptance_rate": "share of the tried that were accepted",
    "beta": "divides the reward",
    "clipped_share": "share of rewards above the bound",
    "effective_sample_size": "independent draws that the weights are worth",
    "ess_length": "effective sample size of the length",
    "ess_reward": "effective sample size of the reward",
    "hopeless": "the target was out of reach",
    "kl": "estimate of KL(target || policy), nats",
    "kl_estimate": "bounds KL(law || inner draw) on average, nats",
    "kl_formula": "KL(law || inner draw) if no two rewards are equal, nats",
    "log_z": "estimate of ln Z, nats",
    "mean_reward": "of the target, as estimated",
    "mean_segment_length": "tokens",
    "num_distinct_states": "different responses among the states",
    "num_forced": "segments taken without being accepted",
    "num_steps": "of each chain, that count",
    "num_without_cut": "steps whose cut fell behind the end",
    "prompt_reward": "of the prompt without an answer",
    "r_hat_length": "near 1: chains agree about the length",
    "r_hat_reward": "near 1: chains agree about the reward",
    "reward_failed": "the reward ended the run",
    "share_truncated": "share of states that reached the greatest length",
    "stopped_early": "a rule ended the run before its last step",
    "swap_rate": "share of exchanges with the next replica that were made",
    "target_unreachable": "no beta gives what the rule asks for",
    "target": "reward of a whole answer that is aimed at",
    "unused_drafts": "begun for nothing",
}


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One row.

    Attributes:
        name: of the note.
        value: as text.
        meaning: in a few words; empty where the name says it.
    """

    name: str
    value: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One answer.

    Attributes:
        answer: what was extracted; None: nothing was.
        share: of all votes, 0 to 1.
        num_candidates: different responses that say so.
        elected: whether it won.
    """

    answer: str | None
    share: float
    num_candidates: int
    elected: bool


def diagnostics(notes: Mapping[str, Note], drawn: Collection[str] = ()) -> list[Diagnostic]:
    """The notes as rows, without those that are drawn or listed elsewhere."""
    return [
        Diagnostic(name, _value(value), _MEANINGS.get(name, ""))
        for name, value in notes.items()
        if name not in drawn
    ]


def votes(notes: Mapping[str, Note]) -> list[Vote]:
    """The answers that were voted on, the most votes first; none if nothing was."""
    answers, shares = notes.get("answers"), notes.get("vote_shares")
    if not isinstance(answers, tuple) or not isinstance(shares, tuple):
        return []
    share = {answer: float(of or 0) for answer, of in zip(answers, shares, strict=True)}
    if None in share:
        share[None] = max(0.0, 1.0 - sum(share.values()))
    found = [
        Vote(
            answer=None if answer is None else str(answer),
            share=part,
            num_candidates=answers.count(answer),
            elected=answer is not None and answer == notes.get("answer"),
        )
        for answer, part in share.items()
    ]
    return sorted(found, key=lambda vote: (not vote.elected, -vote.share))


def number(value: float) -> str:
    """Four digits, which is more than a sample tells."""
    return f"{value:.4g}"


def _value(value: Note) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "unknown"
    if isinstance(value, tuple):
        shown = [number(one) if isinstance(one, float) else str(one) for one in value[:12]]
        return ", ".join(shown) + (f", ... ({len(value)})" if len(value) > 12 else "")
    return value if isinstance(value, str) else number(value)
