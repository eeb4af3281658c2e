"""CARDS next to plain sampling, to best-of-n at equal drawn tokens, and to the loop of its paper.

Everything is measured within one run, in turn, on held-out embedded problems. The unit of cost is
the token-forward: a token for which a model ran. For the engines that is what their schedulers
granted, the prefix caches being empty at the start of every measurement; for the paper's loop
(`eval.bench.reference_cards`), every token of every pass.
"""

import asyncio
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from eval.bench import cards_costs, cards_quality
from eval.bench.counted_engine import CountedEngine
from eval.bench.measured import Looped, MeasuredRow
from eval.bench.reference_cards import Reference, TransformersModels
from rsalign.aligner import AlignedOutput, Aligner
from rsalign.core.capabilities import needs_reward
from rsalign.core.key import Key
from rsalign.core.tasks import concurrently
from rsalign.core.types import Message, Prompt
from rsalign.embedded.problems import problem, problems
from rsalign.engines.vllm.environment import is_cpu_build
from rsalign.engines.vllm.starting import adopt_engine
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.vllm import VllmReward
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.cards import Cards
from rsalign.strategies.plain import Plain

_NUM_PROMPTS = 32  # where fewer are open at once; but no more than eight times as many as are open


def report(
    policy: str,
    reward: str,
    *,
    settings: Cards,
    repeats: int,
    concurrencies: Sequence[int],
    loop_prompts: int,
) -> Iterator[str]:
    """Lines of the report, as they are known.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        settings: of CARDS; `proposals` is varied.
        repeats: of every measurement, each with draws of its own.
        concurrencies: numbers of prompts that are open at once.
        loop_prompts: how many the paper's loop answers in all, one after another.
    """
    yield str(settings)
    with CardsBench(policy, reward, settings) as bench:
        yield from bench.report(repeats, concurrencies, loop_prompts)


class CardsBench:
    """Two engines and the loop, over the same models; all are asked the same problems.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        settings: of CARDS.
    """

    def __init__(self, policy: str, reward: str, settings: Cards) -> None:
        device = "cpu" if is_cpu_build() else "cuda"
        self._settings = settings
        self._drawing = CountedEngine(policy, pooling=False)
        self._judging = CountedEngine(reward, pooling=True)
        self._policy = VllmPolicy.adopt(self._drawing.llm)
        self._judged = Aligner(self._policy, VllmReward(adopt_engine(self._judging.llm)))
        self._unjudged = Aligner(self._policy)
        self._loop = Reference(TransformersModels(policy, reward, device), settings)
        plain, *_, automatic = self.rows()
        for row in (plain, automatic):  # what comes first is slower
            self.measure(row, open_at_once=1, seed=0)
        self.loop(0)

    def __enter__(self) -> "CardsBench":
        return self

    def __exit__(self, *_: object) -> None:
        self._judged.close()
        self._unjudged.close()

    def report(
        self, repeats: int, concurrencies: Sequence[int], loop_prompts: int
    ) -> Iterator[str]:
        """Measures and yields the lines of the report; see `report`."""
        tables = {open_at_once: self.rows() for open_at_once in concurrencies}
        looped: list[Looped] = []
        for repeat in range(repeats):
            started = time.perf_counter()
            for open_at_once, rows in tables.items():
                for row in rows:
                    self.measure(row, open_at_once, repeat)
                if repeat == 0:
                    rows[1:1] = best_ofs = self.best_ofs(rows)
                    for row in best_ofs:
                        self.measure(row, open_at_once, repeat)
            until = loop_prompts * (repeat + 1) // repeats
            looped += [self.loop(index) for index in range(len(looped), until)]
            yield f"repeat {repeat + 1} of {repeats}: {time.perf_counter() - started:.0f} s"
        for open_at_once, rows in tables.items():
            yield from cards_costs.per_answer(rows, looped, open_at_once)
        largest = tables[max(concurrencies)]
        cards = [row for row in largest if isinstance(row.strategy, Cards)]
        best_ofs = [row for row in largest if isinstance(row.strategy, BestOf)]
        yield from cards_costs.of_policy(cards[0], looped, self._drawing.block_size)
        yield from cards_costs.of_reward(cards[0])
        yield from cards_quality.segments(cards, looped)
        yield from cards_quality.quality(cards, best_ofs, looped)

    def rows(self) -> list[MeasuredRow]:
        """Plain sampling, which needs no reward, and CARDS."""
        plain = MeasuredRow("plain", Plain(max_tokens=self._settings.max_tokens))
        varied = (replace(self._settings, proposals=m) for m in (1, 4, 8, "auto"))
        return [plain, *(MeasuredRow(f"cards, m = {each.proposals}", each) for each in varied)]

    def best_ofs(self, rows: Sequence[MeasuredRow]) -> list[MeasuredRow]:
        """Best-of-n for about as many tokens as the thriftiest m draws, and for the greatest."""
        plain, *cards = rows
        sizes = [row.drawn / plain.drawn for row in cards]
        wanted = {max(1, round(min(sizes))), math.ceil(max(sizes))}
        return [
            MeasuredRow(f"best of {n}", BestOf(n=n, inner=plain.strategy)) for n in sorted(wanted)
        ]

    def measure(self, row: MeasuredRow, open_at_once: int, seed: int) -> None:
        """Answers the first problems, of which so many are open at any time."""
        num_prompts = max(open_at_once, min(_NUM_PROMPTS, 8 * open_at_once))
        row.problems = problems("heldout", num_prompts)
        self._drawing.reset()
        self._judging.reset()
        started = time.perf_counter()
        row.answers.append(asyncio.run(self._answers(row, open_at_once, seed)))
        row.seconds.append(time.perf_counter() - started)
        row.policy_forwards += self._drawing.tokens
        row.reward_forwards += self._judging.tokens

    def loop(self, index: int) -> Looped:
        """The loop's answer to one problem."""
        asked = problem("heldout", index)
        messages = (Message("user", asked.question),)
        prompt = Prompt(messages, self._policy.encode_chat(messages))
        return Looped(asked, *self._loop.answer(prompt, Key(index, ("loop",))))

    async def _answers(self, row: MeasuredRow, open_at_once: int, seed: int) -> list[AlignedOutput]:
        aligner = self._judged if needs_reward(row.strategy) else self._unjudged
        answers = await concurrently(
            (
                aligner.agenerate(
                    {"messages": [{"role": "user", "content": asked.question}], "id": i},
                    strategy=row.strategy,
                    seed=seed,
                )
                for i, asked in enumerate(row.problems)
            ),
            limit=open_at_once,
        )
        return [answer for (answer,) in answers]
