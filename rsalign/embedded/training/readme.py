"""Generates `models/README.md` from `report.json`, so that no figure is typed by hand.

``python -m rsalign.embedded.training.readme`` writes it again.
"""

import json
from pathlib import Path
from typing import Any

from rsalign.embedded import MODELS

_TEXT = """\
# The embedded models

Made from nothing by `python -m rsalign.embedded.training` (`make models`; seed {seed}), on problems
that `rsalign/embedded/problems.py` makes. The figures below are from `report.json`, which the same
command wrote; `python -m rsalign.embedded.training.readme` wrote this page from it.

| folder | architecture | what it is |
|---|---|---|
| `policy` | `LlamaForCausalLM` | an early checkpoint of a solver of word problems |
| `strong` | `LlamaForCausalLM` | the same network trained to the end |
| `reward` | `LlamaForSequenceClassification`, 1 label | the solver with three more layers, imperfect |

All are in bf16 with one tokenizer (byte-level BPE; every number from 2 to 60 is one token), one chat
template, and eight reserved ids that no text contains and the policy never produces.

## Training

| stage | minutes, one thread | steps | loss at the end |
|---|---|---|---|
| policy and strong | {policy_minutes:.1f} | {policy_step} and {strong_step} | {policy_loss:.3f} and {strong_loss:.3f} |
| reward | {reward_minutes:.1f} | {reward_step} | {reward_loss:.3f} |

The policy is the first checkpoint that reached its accuracy on tuning problems, the reward model the
first that reached its AUC there: {tuning_accuracy:.3f} and {tuning_auc:.3f}.

## Held-out problems ({problems} problems, {samples} draws each at temperature 1)

| | |
|---|---|
| policy, right at temperature 1 | {accuracy:.3f} |
| by number of changes, 3 to 7 | {by_changes} |
| policy, right by greedy decoding | {greedy:.3f} |
| policy, right at least once in {samples} draws | {pass_at:.3f} |
| strong, right by greedy decoding | {strong_greedy:.3f} |
| reward, AUC within a prompt, whole answers | {auc:.3f} |
| reward, AUC within a prompt, after a quarter, half, three quarters of the lines | {partial} |
| reward, correlation with length | {length:.3f} |
| largest probability of a reserved id at any position | {reserved:.1e} |

AUC *within a prompt* is the mean over prompts of the probability that a right answer scores above a
wrong one to the same prompt; a pooled AUC would also count knowing which problems are hard, which is
of no use for choosing. For partial answers, right and wrong are those of the whole answer.

Best of n under the reward model, with 95 % bootstrap intervals over problems:

| n | right | interval |
|---|---|---|
{best_of}
"""

_OVER_OPTIMISATION = """
It helps, and then over-optimises: larger pools from vLLM, over {problems} held-out problems
(`python -m rsalign.embedded.training.over_optimisation`).

| n | right | interval |
|---|---|---|
{best_of}
"""


def render(report: dict[str, Any]) -> str:
    """Renders the page."""
    heldout, training = report["heldout"], report["training"]
    policy, reward = heldout["policy"], heldout["reward"]
    *_, early, last = training["policy and strong"]
    end = training["reward"][-1]
    page = _TEXT.format(
        seed=report["seed"],
        policy_minutes=report["cpu_minutes"]["policy and strong"],
        reward_minutes=report["cpu_minutes"]["reward"],
        policy_step=early["step"],
        strong_step=last["step"],
        policy_loss=early["loss"],
        strong_loss=last["loss"],
        reward_step=end["step"],
        reward_loss=end["loss"],
        tuning_accuracy=early["accuracy"],
        tuning_auc=end["auc_within_prompt"],
        problems=heldout["problems"],
        samples=heldout["samples_per_problem"],
        accuracy=policy["accuracy_at_temperature_1"],
        by_changes=_listed(policy["accuracy_by_number_of_changes"].values()),
        greedy=policy["greedy_accuracy"],
        pass_at=policy[f"pass_at_{heldout['samples_per_problem']}"],
        strong_greedy=heldout["strong"]["greedy_accuracy"],
        auc=reward["auc_within_prompt"],
        partial=_listed(reward["auc_within_prompt_after_each_quarter_of_the_lines"]),
        length=reward["pearson_with_length"],
        reserved=policy["largest_probability_of_a_reserved_id"],
        best_of=_rows(heldout["best_of"]),
    )
    if large := report.get("over_optimisation"):
        page += _OVER_OPTIMISATION.format(
            problems=large["problems"], best_of=_rows(large["best_of"])
        )
    return page


def write(folder: Path = MODELS) -> None:
    """Writes the page into the folder of the report."""
    report = json.loads((folder / "report.json").read_text())
    (folder / "README.md").write_text(render(report))


def _rows(best_of: dict[str, dict[str, float]]) -> str:
    return "\n".join(
        f"| {n} | {row['accuracy']:.3f} | {row['low']:.3f} to {row['high']:.3f} |"
        for n, row in best_of.items()
    )


def _listed(values: Any) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


if __name__ == "__main__":
    write()
