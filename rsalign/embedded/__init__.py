"""The embedded default: a task, a policy, a strong sibling and a reward model, all tiny.

They ship in the package so that the demo, the tests and the documentation run anywhere, offline,
on the real engine. `rsalign.embedded.training` made them from nothing; `models/README.md` says how
well each does.
"""

from pathlib import Path

__all__ = ["POLICY", "REWARD", "STRONG"]

MODELS = Path(__file__).parent / "models"

POLICY = str(MODELS / "policy")
"""Path of the policy: right about 4 times in 10 at temperature 1 (`LlamaForCausalLM`)."""

STRONG = str(MODELS / "strong")
"""Path of the same network trained to the end (`LlamaForCausalLM`, same tokenizer)."""

REWARD = str(MODELS / "reward")
"""Path of the deliberately imperfect reward model (`LlamaForSequenceClassification`)."""
