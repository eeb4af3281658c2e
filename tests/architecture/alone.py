"""`pip install rsalign` and nothing else: an aligned answer without torch or vLLM."""

import importlib.util
import sys

from rsalign import Aligner, BestOf
from rsalign.testing import ToyPolicy, ToyReward


def main() -> None:
    """Draws, judges and picks; ends with an error if a heavy package was needed."""
    with Aligner(ToyPolicy(), ToyReward(), BestOf(n=4)) as aligner:
        (result,) = aligner.generate("0")
    sys.stdout.write(f"{result.outputs[0].text!r}, reward {result.outputs[0].reward:.2f}\n")
    heavy = {"torch", "vllm"} & set(sys.modules)
    if heavy:
        sys.exit(f"loaded {', '.join(sorted(heavy))}")
    for name in ("torch", "vllm"):
        sys.stdout.write(f"{name}: {'there' if importlib.util.find_spec(name) else 'absent'}\n")


if __name__ == "__main__":
    main()
