"""A tiny task and tiny models that are part of the package: two policies and a reward model.

With them the demo, the tests and the documentation run offline, on any machine, in real vLLM
engines. `rsalign.embedded.training` trains them from scratch; `models/README.md` has their figures.
"""

from pathlib import Path

__all__ = ["POLICY", "REWARD", "STRONG"]

MODELS = Path(__file__).parent / "models"

POLICY = str(MODELS / "policy")
"""Path of the policy (`LlamaForCausalLM`); correct about 4 times in 10 at temperature 1."""

STRONG = str(MODELS / "strong")
"""Path of the same network after full training (`LlamaForCausalLM`, same tokenizer)."""

REWARD = str(MODELS / "reward")
"""Path of the reward model (`LlamaForSequenceClassification`), which is imperfect on purpose."""
