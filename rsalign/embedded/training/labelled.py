"""Training data of the reward model: answers with a label for every token."""

from dataclasses import dataclass

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from rsalign.core.key import Key
from rsalign.embedded.problems import OPENERS, Problem, problems
from rsalign.embedded.training.sampling import draw
from rsalign.embedded.training.tokenizer import encode_prompt

_BATCH_SIZE = 100
_SLIP_TEMPERATURE = 2.0

# problems far beyond those the solver is trained on
_SAMPLED_FROM = 5_000_000
_SLIPS_FROM = 9_000_000


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer with its labels.

    Attributes:
        prompt: token ids of the chat prompt.
        answer: token ids of the answer, including EOS if it was sampled.
        on_track: for each answer token, whether the tokens so far begin a correct solution (first
            words of lines are ignored); for the last token, whether the answer is correct.
    """

    prompt: list[int]
    answer: list[int]
    on_track: list[bool]


class Labeller:
    """Labels answers exactly, by comparison with the correct solution."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._openers = {_single(tokenizer, opener) for opener in OPENERS}

    def solution(self, problem: Problem, key: Key) -> list[int]:
        """Token ids of a right solution, EOS included."""
        text = problem.solution(key)
        tokens = self._tokenizer.encode(text, add_special_tokens=False)
        return [*tokens, self._tokenizer.eos_token_id]

    def __call__(self, problem: Problem, answer: list[int]) -> Labelled:
        """Labels an answer."""
        right_tokens = self.solution(problem, Key(0))
        so_far, on_track = True, []
        for i, token in enumerate(answer):
            so_far = so_far and i < len(right_tokens) and self._agree(token, right_tokens[i])
            on_track.append(so_far)
        text = self._tokenizer.decode(answer, skip_special_tokens=True)
        on_track[-1] = problem.grade(text)
        return Labelled(encode_prompt(self._tokenizer, problem), answer, on_track)

    def _agree(self, token: int, right: int) -> bool:
        return token == right or (token in self._openers and right in self._openers)


def sampled(
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    key: Key,
    *,
    num_problems: int,
    samples_per_problem: int,
) -> list[Labelled]:
    """Labels samples of the policy, whose errors are those that the reward model will see."""
    asked = problems("train", num_problems, start=_SAMPLED_FROM)
    drawn = draw(policy, tokenizer, asked, num_samples=samples_per_problem, seed=key.seed())
    label = Labeller(tokenizer)
    return [
        label(problem, tokens)
        for problem, answers in zip(asked, drawn, strict=True)
        for tokens in answers
    ]


def with_slips(
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    key: Key,
    *,
    num_problems: int,
    densities: tuple[float, ...],
) -> list[Labelled]:
    """Correct solutions in which some numbers are replaced by likely errors of the policy.

    Random numbers would be too easy to detect.

    Args:
        policy: proposes the wrong numbers, at a high temperature.
        tokenizer: of the policy.
        key: address of the draws.
        num_problems: one solution each.
        densities: shares of numbers replaced, in turn from batch to batch.
    """
    label = Labeller(tokenizer)
    numbers = torch.tensor([_single(tokenizer, f" {n}") for n in range(2, 61)])
    generator = torch.Generator().manual_seed(key.seed())
    asked = problems("train", num_problems, start=_SLIPS_FROM)
    asked.sort(key=lambda problem: len(problem.question))  # neighbours need little padding
    rows = []
    for start in range(0, num_problems, _BATCH_SIZE):
        batch = asked[start : start + _BATCH_SIZE]
        solutions = [
            label.solution(problem, key.child(start, i)) for i, problem in enumerate(batch)
        ]
        slips = _slips(policy, tokenizer, batch, solutions, numbers, generator)
        density = densities[start // _BATCH_SIZE % len(densities)]
        for problem, solution, slip in zip(batch, solutions, slips, strict=True):
            chosen = torch.rand(len(solution), generator=generator) < density
            answer = [
                wrong if here and token in numbers else token
                for token, wrong, here in zip(solution, slip, chosen.tolist(), strict=True)
            ]
            labelled = label(problem, answer)
            labelled.on_track[-1] = all(labelled.on_track[:-1])  # right by luck is still off track
            rows.append(labelled)
    return rows


@torch.inference_mode()
def _slips(
    policy: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    batch: list[Problem],
    solutions: list[list[int]],
    numbers: torch.Tensor,
    generator: torch.Generator,
) -> list[list[int]]:
    """For every token of every solution a wrong number that the policy might write there."""
    prompts = [encode_prompt(tokenizer, problem) for problem in batch]
    rows = [prompt + solution for prompt, solution in zip(prompts, solutions, strict=True)]
    inputs = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        inputs[i, : len(row)] = torch.tensor(row)
    logits = policy(inputs[:, :-1]).logits / _SLIP_TEMPERATURE
    only_wrong = torch.full_like(logits, float("-inf"))
    only_wrong[..., numbers] = logits[..., numbers]
    only_wrong.scatter_(2, inputs[:, 1:, None], float("-inf"))
    probs = only_wrong.softmax(-1)
    drawn = torch.multinomial(probs.flatten(0, 1), 1, generator=generator).view(probs.shape[:2])
    return [
        drawn[i, len(prompt) - 1 : len(prompt) - 1 + len(solution)].tolist()
        for i, (prompt, solution) in enumerate(zip(prompts, solutions, strict=True))
    ]


def _single(tokenizer: PreTrainedTokenizerFast, text: str) -> int:
    (token,) = tokenizer.encode(text, add_special_tokens=False)
    return int(token)
