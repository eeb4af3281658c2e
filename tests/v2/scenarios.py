"""What both of vLLM's model runners must answer alike; run as a script, it writes one's answers.

Their random numbers differ, so that only what is greedy, or follows codes of its own, can be
compared token by token. A script, because a process has one runner:

    VLLM_USE_V2_MODEL_RUNNER=0 python tests/v2/scenarios.py ANSWERS.json
"""

import asyncio
import json
import math
import sys
from pathlib import Path

from rsalign import Key, Message, Sampling
from rsalign.core.tasks import concurrently
from rsalign.embedded import POLICY, STRONG
from rsalign.embedded.problems import problem
from rsalign.hooks.arithmetic.request import CodeBook
from rsalign.policies.vllm import VllmPolicy
from rsalign.segments import Entropy, Punctuation

NUM_PROMPTS = 8
MAX_TOKENS = 32
START = {
    "guides": [STRONG],
    "kv_cache_memory_bytes": 32 << 20,
    "max_model_len": 192,
    "max_num_seqs": 6,  # fewer than there are requests
}
BOUNDARIES = {
    "uncertain": Entropy(1.0),
    "uncertain, later": Entropy(0.5, min_tokens=9),
    "after a mark": Punctuation("=", min_entropy=0.0),
    "after an uncertain mark": Punctuation("0123456789=", min_entropy=0.02, min_tokens=2),
}


def start(**changes):
    return VllmPolicy.start(POLICY, **START | changes)


def prompts(policy):
    return [
        policy.encode_chat((Message("user", problem("heldout", i).question),))
        for i in range(NUM_PROMPTS)
    ]


def draw(policy, boundary=None, *, measured=False):
    """A segment of each prompt, all at once."""
    method = policy.measure if measured else policy.extend

    async def main():
        return await concurrently(
            method(prompt, max_new_tokens=MAX_TOKENS, key=Key(1, (i,)), boundary=boundary)
            for i, prompt in enumerate(prompts(policy))
        )

    return asyncio.run(main())


def describe(segment):
    """A segment as plain data."""
    told = [
        list(segment.tokens),
        segment.stop.name,
        list(segment.log_probs),
        segment.boundary_entropy,
    ]
    if segment.certainty is not None:
        told += [list(segment.certainty.entropies), list(segment.certainty.self_certainties)]
    return told


def greedy(policy, **changes):
    return policy.with_sampling(Sampling(temperature=0, **changes))


def _chain(policy, boundary):
    """Whole answers, segment by segment."""

    async def answer(prompt):
        tokens, ends = (), []
        while len(tokens) < MAX_TOKENS:
            room = MAX_TOKENS - len(tokens)
            segment = await policy.extend(
                prompt + tokens, max_new_tokens=room, key=Key(0), boundary=boundary
            )
            tokens += segment.tokens
            ends.append([len(tokens), segment.stop.name])
            if segment.stop.name != "BOUNDARY":
                break
        return [list(tokens), ends]

    async def main():
        return await concurrently(answer(prompt) for prompt in prompts(policy)[:4])

    return asyncio.run(main())


def _score(policy):
    wholes = draw(greedy(policy))[:4]

    async def main():
        return await concurrently(
            policy.log_probs(prompt, whole.tokens)
            for prompt, whole in zip(prompts(policy), wholes, strict=False)
        )

    return [list(map(float, log_probs)) for log_probs in asyncio.run(main())]


def _spread(policy):
    """Samples with codes, beside others without."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    first, second = prompts(policy)[:2]

    def ask(n, seed, **law):
        extra = CodeBook(n=n, seed=seed).extra_args
        kind = RequestOutputKind.FINAL_ONLY
        return SamplingParams(n=n, seed=seed, extra_args=extra, output_kind=kind, **law)

    async def sample(prompt, params):
        outputs = (await policy.engine.generate(prompt, params)).outputs
        return [list(output.token_ids) for output in outputs]

    async def main():
        spread, _, tempered = await concurrently(
            [
                sample(first, ask(8, 5, max_tokens=MAX_TOKENS)),
                sample(first, SamplingParams(n=3, seed=9, max_tokens=12)),
                sample(second, ask(8, 100, max_tokens=12, temperature=1.6, top_k=30)),
            ]
        )
        return [spread, tempered]

    return asyncio.run(main())


SCENARIOS = {
    "greedy": lambda policy: [describe(one) for one in draw(greedy(policy))],
    **{
        f"segments, {name}": lambda policy, boundary=boundary: [
            describe(one) for one in draw(greedy(policy), boundary)
        ]
        for name, boundary in BOUNDARIES.items()
    },
    "answers of segments": lambda policy: _chain(
        greedy(policy), BOUNDARIES["after an uncertain mark"]
    ),
    "statistics": lambda policy: [describe(one) for one in draw(greedy(policy), measured=True)],
    "statistics of segments": lambda policy: [
        describe(one) for one in draw(greedy(policy), Entropy(1.0), measured=True)
    ],
    "log-probabilities of given tokens": _score,
    "guided": lambda policy: [describe(one) for one in draw(greedy(policy, guidance=(0.7,)))],
    "guided segments": lambda policy: [
        describe(one) for one in draw(greedy(policy, guidance=(-0.5,)), Entropy(1.0))
    ],
    "spread samples": _spread,
}


def alike(one, other):
    """Whether answers are the same, numbers up to the rounding of float32."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0, abs_tol=2e-4)
    return one == other


if __name__ == "__main__":
    policy = start()
    assert not policy.engine.vllm_config.use_v2_model_runner
    answers = {name: scenario(policy) for name, scenario in SCENARIOS.items()}
    policy.close()
    Path(sys.argv[1]).write_text(json.dumps(answers))
