"""Measures best-of-n for large n, where it over-optimises the reward model.

Run it by ``python -m rsalign.embedded.training.over_optimisation``. It adds its results to
`report.json` and writes `models/README.md` again. It samples with vLLM, so that pools of hundreds
take minutes; smaller n are subsets of the same pool.
"""

import argparse
import json

import numpy as np

from rsalign.aligner import Aligner
from rsalign.embedded import MODELS, POLICY, REWARD
from rsalign.embedded.problems import problems
from rsalign.embedded.training.measure import best_of
from rsalign.embedded.training.readme import write
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.plain import Plain

_MAX_TOKENS = 128


def main() -> None:
    """Samples the pools, and writes the accuracy at each n."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=50)
    parser.add_argument("--draws", type=int, default=512, help="a power of two")
    arguments = parser.parse_args()
    asked = problems("heldout", arguments.problems)
    pool = BestOf(n=arguments.draws, inner=Plain(max_tokens=_MAX_TOKENS))
    with Aligner(POLICY, REWARD, pool) as aligner:
        answers = aligner.chat([[{"role": "user", "content": p.question}] for p in asked])
    drawn = [[p.candidate for p in answer.alignment.trace.proposals] for answer in answers]
    rewards = np.array([[c.reward for c in row] for row in drawn])
    right = np.array(
        [[p.grade(c.response.text) for c in row] for p, row in zip(asked, drawn, strict=True)]
    )
    sizes = [2**k for k in range(arguments.draws.bit_length())]
    report = json.loads((MODELS / "report.json").read_text())
    report["over_optimisation"] = {
        "problems": arguments.problems,
        "best_of": {str(n): best_of(rewards, right, n) for n in sizes},
    }
    (MODELS / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    write()


if __name__ == "__main__":
    main()
