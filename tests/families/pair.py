"""A family's policy, a reward and a step reward, each on a real engine, in this process."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsalign import Aligner
from rsalign.engines.vllm.building import engine_arguments
from rsalign.engines.vllm.environment import import_vllm, temporary_environment
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.process import VllmStepReward
from rsalign.rewards.vllm import VllmReward
from tests.families.checkpoints import policy_folder, reward_folder, token_ids
from tests.families.families import BY_NAME, Family
from tests.families.reference import Reference

if TYPE_CHECKING:
    from vllm import LLM

CONTEXT = 1024
SMALL = {"kv_cache_memory_bytes": 64 << 20, "max_model_len": CONTEXT}
HOOKS = ["rsalign.hooks.v1:TokenStatistics", "rsalign.hooks.v1:SegmentEnd"]


@dataclass(frozen=True)
class Pair:
    """One family at work.

    Attributes:
        family: whose policy it is.
        llm: vLLM's own face of the policy's engine.
        aligner: ours, over the same engine, with `reward`.
        reward: of the family, or of another one that vLLM can run.
        steps: the same reward model, asked for each step.
        reference: the same reward model in transformers.
    """

    family: Family
    llm: "LLM"
    aligner: Aligner
    reward: VllmReward
    steps: VllmStepReward
    reference: Reference

    @property
    def policy(self) -> VllmPolicy:
        policy = self.aligner.policy
        assert isinstance(policy, VllmPolicy)
        return policy

    @property
    def tokenizer(self) -> Any:
        return self.llm.get_tokenizer()

    @property
    def ends(self) -> tuple[int, ...]:
        """The ids that end an answer."""
        ids = token_ids(self.family)
        return tuple(ids[name] for name in self.family.ends)

    def ids_of(self, text: str) -> list[int]:
        """The tokens of a text, without those around it."""
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return tokens


@contextmanager
def start(family: Family, policy: Path | None = None) -> Iterator[Pair]:
    """Starts both engines, as rsalign starts them, and stops them.

    Args:
        family: whose policy and reward.
        policy: another folder for the policy.
    """
    judge = reward_folder(BY_NAME[family.reward or family.name])
    with closing(VllmReward.start(str(judge), **SMALL)) as reward:
        llm = start_llm(policy or policy_folder(family), **family.engine_args)
        try:
            with Aligner(llm, reward) as aligner:
                steps = VllmStepReward(reward.engine, aligner.policy.text)
                yield Pair(family, llm, aligner, reward, steps, Reference(judge))
        finally:
            llm.llm_engine.engine_core.shutdown()


def start_llm(folder: Path, **engine_args: Any) -> "LLM":
    """A `vllm.LLM` with the arguments and hooks of `VllmPolicy.start`."""
    import_vllm()
    from vllm import LLM

    arguments = engine_arguments(str(folder), {**SMALL, **engine_args}, pooling=False)
    with temporary_environment(VLLM_ENABLE_V1_MULTIPROCESSING="0"):
        return LLM(**arguments, logits_processors=HOOKS)
