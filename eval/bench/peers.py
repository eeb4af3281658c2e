"""What a user would pick instead: hand-written loops, and its_hub on servers of vLLM, as ratios.

Everything is asked the same held-out problems in one run, in turn. Engines and servers have the
settings that rsalign gives its own. its_hub runs in a Python environment of its own, and asks two
servers of vLLM's, one of the policy and one of the reward; its steps are lines, as rsalign's
segments are. Rewards are those of complete answers by the same model; nobody's own scores count.
"""

import contextlib
import json
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

from eval.bench.bare_engine import bare_engine
from rsalign.aligner import Aligner
from rsalign.bench.server_process import ServerProcess, stock_command
from rsalign.core.errors import ConfigError, PolicyError
from rsalign.core.protocols import Strategy
from rsalign.core.types import Message, Prompt, Response, Stop
from rsalign.embedded.problems import Problem, problems
from rsalign.engines.vllm.starting import adopt_engine
from rsalign.policies.vllm import VllmPolicy
from rsalign.rewards.rendering import Rendering
from rsalign.rewards.vllm import VllmReward
from rsalign.segments import Punctuation
from rsalign.strategies.beam import Beam
from rsalign.strategies.best_of import BestOf
from rsalign.strategies.particles import Particles
from rsalign.strategies.plain import Plain

CLIENT = Path(__file__).with_name("its_hub_client.py")
"""The program that asks its_hub."""

_MAX_TOKENS = 96
_LAST_STEP = "Answer:"  # how the last line of an embedded solution begins
_BATCH = 16
_BEAM_WIDTH = 4


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers to all problems.

    Attributes:
        texts: one for each problem, in order.
        drawn: tokens, the discarded ones included.
        seconds: wall-clock time.
    """

    texts: Sequence[str]
    drawn: int
    seconds: float


@dataclass(slots=True)
class PeerRow:
    """A way to answer, and what it measured.

    Attributes:
        name: in the table.
        against: the name of rsalign's row that does the same; empty for that row itself.
        answer: answers all problems; the argument is a seed.
        runs: of each repeat.
        rewards: mean reward of each repeat.
    """

    name: str
    against: str
    answer: Callable[[int], Answered]
    runs: list[Answered] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)


class PeersBench:
    """The models in rsalign, in bare engines, in transformers, and behind servers.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        asked: the problems.
        n: candidates of an answer.
    """

    def __init__(self, policy: str, reward: str, asked: Sequence[Problem], n: int) -> None:
        self._asked, self._n, self._reward_name = asked, n, reward
        self._llm = bare_engine(policy, pooling=False)
        self._judge = bare_engine(reward, pooling=True)
        # not the bare engine: without rsalign's hooks segments would be drawn longer and cut
        self._policy = VllmPolicy.start(policy)
        self._reward = VllmReward(adopt_engine(self._judge))
        self._aligner = Aligner(self._policy, self._reward)
        self._rendering = Rendering(
            self._judge.get_tokenizer(), self._judge.model_config.max_model_len
        )
        self._transformer: Any = None

    def close(self) -> None:
        """Closes what was opened."""
        self._aligner.close()
        self._policy.close()

    def rows(self, its_hub: str | None, servers: Sequence[ServerProcess]) -> list[PeerRow]:
        """All ways to answer.

        Args:
            its_hub: the Python of an environment that has its_hub; None: it is left out.
            servers: of policy and reward, for its_hub.
        """
        n, lines = self._n, Punctuation("\n", min_entropy=0.0, min_tokens=1)
        inner, beam = Plain(max_tokens=_MAX_TOKENS), n // _BEAM_WIDTH
        best, search, filtered = f"rsalign BestOf({n})", "rsalign Beam", "rsalign Particles"
        rows = [
            PeerRow("rsalign Plain", "", self._ours(inner)),
            PeerRow(best, "", self._ours(BestOf(n=n, inner=inner))),
            PeerRow(f"LLM.chat(n={n}), vLLM scores", best, self._loop(self._by_vllm)),
            PeerRow(f"LLM.chat(n={n}), transformers", best, self._loop(self._by_transformers)),
            PeerRow(
                search,
                "",
                self._ours(
                    Beam(segmenter=lines, width=_BEAM_WIDTH, branch=beam, max_tokens=_MAX_TOKENS)
                ),
            ),
            PeerRow(
                filtered, "", self._ours(Particles(segmenter=lines, n=n, max_tokens=_MAX_TOKENS))
            ),
        ]
        if its_hub is not None:
            rows += [
                PeerRow("its_hub best-of-n", best, self._hub(its_hub, "best-of-n", servers)),
                PeerRow("its_hub beam search", search, self._hub(its_hub, "beam search", servers)),
                PeerRow(
                    "its_hub particle filtering",
                    filtered,
                    self._hub(its_hub, "particle filtering", servers),
                ),
            ]
        return rows

    def measure(self, row: PeerRow, seed: int) -> None:
        """Adds one repeat to a row."""
        answered = row.answer(seed)
        row.runs.append(answered)
        pairs = zip(self._asked, answered.texts, strict=True)
        row.rewards.append(fmean(self._by_vllm([(p, text) for p, text in pairs])))

    def share_right(self, row: PeerRow) -> float:
        """The share of right answers, over all repeats."""
        return fmean(
            problem.grade(text)
            for run in row.runs
            for problem, text in zip(self._asked, run.texts, strict=True)
        )

    def _ours(self, strategy: Strategy) -> Callable[[int], Answered]:
        def answer(seed: int) -> Answered:
            started = time.perf_counter()
            outputs = self._aligner.chat(
                [[{"role": "user", "content": problem.question}] for problem in self._asked],
                strategy=strategy,
                seed=seed,
                use_tqdm=False,
            )
            seconds = time.perf_counter() - started
            drawn = sum(output.alignment.usage.policy_tokens_drawn for output in outputs)
            return Answered([output.outputs[0].text for output in outputs], drawn, seconds)

        return answer

    def _loop(
        self, score: Callable[[Sequence[tuple[Problem, str]]], list[float]]
    ) -> Callable[[int], Answered]:
        """Best-of-n as users write it: draw all, score all, take the best."""
        from vllm import SamplingParams

        def answer(seed: int) -> Answered:
            started = time.perf_counter()
            outputs = self._llm.chat(
                [[{"role": "user", "content": problem.question}] for problem in self._asked],
                SamplingParams(n=self._n, temperature=1.0, max_tokens=_MAX_TOKENS),
                use_tqdm=False,
            )
            pairs = [
                (problem, one.text)
                for problem, output in zip(self._asked, outputs, strict=True)
                for one in output.outputs
            ]
            scores = score(pairs)
            best = []
            for first in range(0, len(pairs), self._n):
                choice = max(range(first, first + self._n), key=scores.__getitem__)
                best.append(pairs[choice][1])
            seconds = time.perf_counter() - started
            drawn = sum(len(one.token_ids) for output in outputs for one in output.outputs)
            return Answered(best, drawn, seconds)

        return answer

    def _by_vllm(self, pairs: Sequence[tuple[Problem, str]]) -> list[float]:
        from vllm import PoolingParams, TokensPrompt

        texts = []
        for problem, text in pairs:
            prompt = Prompt((Message("user", problem.question),), (0,))  # no ids are read
            tokens = self._rendering.tokens(prompt, Response((), text, Stop.EOS))
            texts.append(TokensPrompt(prompt_token_ids=list(tokens)))
        outputs = self._judge.encode(
            texts,
            pooling_task="classify",
            pooling_params=PoolingParams(use_activation=False),
            use_tqdm=False,
        )
        return [float(output.outputs.data[0]) for output in outputs]

    def _by_transformers(self, pairs: Sequence[tuple[Problem, str]]) -> list[float]:
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if self._transformer is None:
            self._transformer = (
                AutoTokenizer.from_pretrained(self._reward_name),
                AutoModelForSequenceClassification.from_pretrained(self._reward_name).eval(),
            )
        tokenizer, model = self._transformer
        texts = [
            tokenizer.apply_chat_template(
                [
                    {"role": "user", "content": problem.question},
                    {"role": "assistant", "content": text},
                ],
                tokenize=False,
            )
            for problem, text in pairs
        ]
        scores: list[float] = []
        for first in range(0, len(texts), _BATCH):
            batch = tokenizer(
                texts[first : first + _BATCH],
                add_special_tokens=False,
                padding=True,
                return_tensors="pt",
            )
            with torch.inference_mode():
                scores += model(**batch).logits[:, 0].tolist()
        return scores

    def _hub(
        self, python: str, algorithm: str, servers: Sequence[ServerProcess]
    ) -> Callable[[int], Answered]:
        policy, reward = servers

        def answer(seed: int) -> Answered:  # its_hub has no seeds
            asked = {
                "policy": policy.address,
                "reward": reward.address,
                "algorithm": algorithm,
                "budget": self._n,
                "max_tokens": _MAX_TOKENS,
                "stop": _LAST_STEP,
                "questions": [problem.question for problem in self._asked],
            }
            before = _drawn_by(policy)
            done = subprocess.run(
                [python, str(CLIENT)],
                input=json.dumps(asked),
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise PolicyError(f"its_hub's {algorithm} failed: {done.stderr[-2000:]}")
            found = json.loads(done.stdout)
            return Answered(found["answers"], _drawn_by(policy) - before, found["seconds"])

        return answer


def _drawn_by(server: ServerProcess) -> int:
    """Tokens that a server has drawn so far."""
    with urllib.request.urlopen(f"{server.address}/metrics", timeout=30) as answered:
        lines = answered.read().decode().splitlines()
    counted = [line for line in lines if line.startswith("vllm:generation_tokens_total")]
    return int(sum(float(line.rpartition(" ")[2]) for line in counted))


def report(
    policy: str, reward: str, *, n: int, num_prompts: int, repeats: int, its_hub: str | None
) -> Iterator[str]:
    """Lines of the report, as they are known.

    Args:
        policy: Hugging Face id or path.
        reward: Hugging Face id or path.
        n: candidates of an answer, a multiple of 4.
        num_prompts: problems that are asked at once.
        repeats: of every measurement; one more fills caches.
        its_hub: the Python of an environment that has its_hub; None: it is left out.

    Raises:
        ConfigError: if `n` is no multiple of 4, or that Python has no its_hub.
        PolicyError: if a server does not start, or its_hub fails.
    """
    _check(n, its_hub)
    bench = PeersBench(policy, reward, problems("heldout", num_prompts), n)
    with contextlib.ExitStack() as stack:
        stack.callback(bench.close)
        servers: list[ServerProcess] = []
        if its_hub is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            for model, pooling in ((policy, False), (reward, True)):
                command = stock_command(model, pooling=pooling)
                log = folder / ("reward" if pooling else "policy")
                servers.append(stack.enter_context(ServerProcess(command, log)))
            for server in servers:
                server.wait()
        rows = bench.rows(its_hub, servers)
        for repeat in range(repeats + 1):
            for row in rows:
                bench.measure(row, repeat)
                yield f"{row.name}, repeat {repeat}: {row.runs[-1].seconds:.1f} s"
                if not repeat:
                    row.runs.clear()
                    row.rewards.clear()
    yield from table(rows, bench.share_right, num_prompts)


def _check(n: int, its_hub: str | None) -> None:
    if n % _BEAM_WIDTH:
        raise ConfigError(f"--n {n}: give a multiple of {_BEAM_WIDTH}, the width of a beam search")
    if its_hub is None:
        return
    try:
        subprocess.run([its_hub, "-c", "import its_hub, aiohttp"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as failed:
        raise ConfigError(
            f"--its-hub {its_hub}: this Python has no its_hub: make an environment of its own for "
            'it (python3 -m venv hub; hub/bin/pip install "its_hub[lm]"), and give hub/bin/python'
        ) from failed


def table(
    rows: Sequence[PeerRow], share_right: Callable[[PeerRow], float], num_prompts: int
) -> Iterator[str]:
    """One line for each row; "ours" is how many times as fast rsalign's row of that kind is."""
    by_name = {row.name: row for row in rows}
    yield (
        f"{'':<30} {'answers/s':>9} {'ours':>6} {'right':>6} {'reward':>7} "
        f"{'tokens an answer':>17} {'tokens/s':>9} {'ours':>6}"
    )
    for row in rows:
        ours = by_name[row.against or row.name]
        faster = median(
            theirs.seconds / our.seconds for theirs, our in zip(row.runs, ours.runs, strict=True)
        )
        drawing = median(
            (our.drawn / our.seconds) / (theirs.drawn / theirs.seconds)
            for theirs, our in zip(row.runs, ours.runs, strict=True)
        )
        drawn = sum(run.drawn for run in row.runs)
        seconds = sum(run.seconds for run in row.runs)
        yield (
            f"{row.name:<30} {num_prompts / median(run.seconds for run in row.runs):>9.2f} "
            f"{faster:>6.2f} {share_right(row):>6.0%} {fmean(row.rewards):>7.2f} "
            f"{drawn / len(row.runs) / num_prompts:>17.0f} {drawn / seconds:>9.0f} {drawing:>6.2f}"
        )
