"""Tables of how far the answers are from the policy: divergence, and likelihood."""

from eval.analysis.acceptance import MOST_LEFT_OUT
from eval.analysis.frontier import FEWEST_DRAWS, Divergence
from eval.analysis.views import Cost
from eval.report.findings import Findings
from eval.report.table import (
    Cell,
    Colours,
    Table,
    amount,
    interval,
    interval_text,
    name_cells,
    words,
)


def likelihoods(found: Findings, colours: Colours) -> Table:
    """How likely the policy itself finds the answers, and how long they are."""
    shown = [row for row in found.rows if row.log_prob is not None]
    return Table(
        key="likelihood",
        title="Likelihood and length of the answers",
        notes=[
            "Log-probability: ln of the policy's probability of the answer under the law that its "
            "tokens were drawn from, nats a token. Text that a strategy makes less likely than "
            "plain sampling does is less fluent to the policy; far more likely text often repeats "
            "itself.",
        ],
        columns=["method", "answers' worth", "log-probability a token", "tokens", "reward"],
        rows=[
            [
                *name_cells(row.configuration),
                interval(row.log_prob),
                interval(row.length),
                interval(row.reward),
            ]
            for row in shown
        ],
        series=[colours[row.configuration.method] for row in shown],
        num_names=2,
    )


def divergences(found: Findings, colours: Colours) -> Table:
    """Reward, score and KL."""
    shown = [row for row in found.rows if found.divergences[row.configuration.name].is_known]
    kls = [found.divergences[row.configuration.name] for row in shown]
    return Table(
        key="kl",
        title="Divergence from the policy",
        notes=[
            "KL(law of the answer || policy), nats. Formula: of best-of-N where no two rewards are "
            "equal, else an upper bound. Pool: mean of an upper bound from each pool, loose for "
            "deterministic choices. Methods without any of these are left out.",
            "Log Z: of the tilted law that a chain aims at, where its last state is the answer. "
            "Target: the same where the answer is elected from the states; it is not the answer's, "
            "which goes further. Too few draws: log Z would rest on fewer than "
            f"{FEWEST_DRAWS} independent draws of the policy for each prompt (those that the "
            "chains start from are counted), and the logarithm of so small a mean is biased.",
            "Tries: of rejection sampling, unbiased if every answer was accepted. Too low: more "
            f"than {100 * MOST_LEFT_OUT:g} % of the answers are left out of it, as they were "
            "forced, ended at a hard limit or took more proposals than a record holds. Calibrate: "
            "the mean over targets of the divergence given the target, so an upper bound of that "
            "of the answer, whose target is drawn too.",
            "Figures have neither what is too low nor the target's.",
        ],
        columns=[
            *("method", "answers' worth", "KL by formula", "KL by pool", "KL by log Z"),
            *("KL of target", "KL by tries", "reward", "score", "drawn tokens"),
        ],
        rows=[
            [
                *name_cells(row.configuration),
                interval(kl.formula),
                interval(kl.estimator),
                words("too few draws") if kl.has_few_draws else interval(kl.log_z),
                interval(kl.target),
                _tries(kl),
                interval(row.reward),
                interval(row.score),
                amount(row.usage.get(Cost.DRAWN_TOKENS)),
            ]
            for row, kl in zip(shown, kls, strict=True)
        ],
        series=[colours[row.configuration.method] for row in shown],
        num_names=2,
    )


def _tries(kl: Divergence) -> Cell:
    if kl.low_tries:
        return words(f"{interval_text(kl.low_tries)}, too low")
    return interval(kl.tries)
