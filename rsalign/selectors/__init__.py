"""Selectors: rules that choose one of several candidates as the answer.

`BestOf` and `EarlyStop` apply them to independent draws, `MarkovChain` to the states of its chains,
`Particles` to weighed answers.
"""

from typing import Any

from rsalign.selectors.by_reward import Hard, Last, Soft, StatisticalRejection, TopFraction
from rsalign.selectors.by_weight import ByWeight
from rsalign.selectors.chi_squared_pessimism import ChiSquaredPessimism
from rsalign.selectors.knockout import Knockout
from rsalign.selectors.leads import BetaLead, DirichletLead, Lead
from rsalign.selectors.minimum_bayes_risk import MinimumBayesRisk
from rsalign.selectors.protocol import Selection, Selector
from rsalign.selectors.self_certainty import SelfCertainty
from rsalign.selectors.votes import (
    BestOfMajority,
    ConfidenceWeightedVote,
    MajorityVote,
    RewardWeightedVote,
)

__all__ = [
    "SELECTORS",
    "BestOfMajority",
    "BetaLead",
    "ByWeight",
    "ChiSquaredPessimism",
    "ConfidenceWeightedVote",
    "DirichletLead",
    "Hard",
    "Knockout",
    "Last",
    "Lead",
    "MajorityVote",
    "MinimumBayesRisk",
    "RewardWeightedVote",
    "Selection",
    "Selector",
    "SelfCertainty",
    "Soft",
    "StatisticalRejection",
    "TopFraction",
]

SELECTORS: dict[str, type[Any]] = {
    "hard": Hard,
    "last": Last,
    "by_weight": ByWeight,
    "soft": Soft,
    "majority_vote": MajorityVote,
    "reward_weighted_vote": RewardWeightedVote,
    "confidence_weighted_vote": ConfidenceWeightedVote,
    "self_certainty": SelfCertainty,
    "best_of_majority": BestOfMajority,
    "minimum_bayes_risk": MinimumBayesRisk,
    "knockout": Knockout,
    "top_fraction": TopFraction,
    "chi_squared_pessimism": ChiSquaredPessimism,
    "statistical_rejection": StatisticalRejection,
}
"""Selectors by their names in settings; any other class is named as ``module:Class``."""
