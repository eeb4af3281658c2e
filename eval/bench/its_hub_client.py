"""Asks vLLM servers by its_hub's algorithms; run by the Python of an environment that has its_hub.

Reads one JSON object from standard input: addresses of the policy's and the reward's server,
questions, the algorithm's name, its budget, and the limits of an answer. Writes the answers and the
seconds that they took, as JSON. It imports nothing of this package.
"""

import asyncio
import json
import math
import sys
import time
from typing import Any

import aiohttp
from its_hub import (
    AbstractOutcomeRewardModel,
    AbstractProcessRewardModel,
    BestOfN,
    LMOrchestrator,
    OpenAICompatibleLanguageModel,
    StepGeneration,
)
from its_hub.core.algorithms.beam_search import BeamSearch
from its_hub.core.algorithms.particle_gibbs import ParticleFiltering

_MAX_STEPS = 16
_BEAM_WIDTH = 4


class Server:
    """Scores conversations on a vLLM server of a reward model."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self._address = address
        self._session = session

    async def score(self, question: str, answer: str, *, complete: bool) -> float:
        """The raw score of one answer."""
        body = {
            "model": "policy",
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": answer},
            ],
            "add_generation_prompt": False,
            "continue_final_message": not complete,
            "use_activation": False,
        }
        async with self._session.post(f"{self._address}/classify", json=body) as answered:
            answered.raise_for_status()
            found = await answered.json()
        return float(found["data"][0]["probs"][0])


class Outcomes(AbstractOutcomeRewardModel):  # type: ignore[misc] # its_hub is not followed
    """Scores of complete answers, for best-of-n."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def score(self, messages: Any, **_: Any) -> Any:
        """Not called by the asynchronous algorithms."""
        raise NotImplementedError

    async def ascore(self, messages: Any, orchestrator: Any = None, **_: Any) -> list[float]:
        """Scores conversations at once."""
        return list(
            await asyncio.gather(  # noqa: TID251 - this package is not here
                *(
                    self._server.score(
                        str(one[0].content), str(one[-1].content or ""), complete=True
                    )
                    for one in messages
                )
            )
        )


class Steps(AbstractProcessRewardModel):  # type: ignore[misc] # its_hub is not followed
    """Probabilities for answers so far, as its_hub's searches want them."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def score(self, prompt_or_messages: Any, steps: Any) -> Any:
        """Not called by the asynchronous algorithms."""
        raise NotImplementedError

    async def ascore(self, prompt_or_messages: Any, steps: Any) -> list[float]:
        """Scores what has been written so far."""
        question = str(prompt_or_messages)
        scores = await asyncio.gather(  # noqa: TID251 - this package is not here
            *(self._server.score(question, one, complete=False) for one in steps)
        )
        return [1 / (1 + math.exp(-score)) for score in scores]


async def answer(asked: dict[str, Any]) -> list[str]:
    """The answers to all questions, which are open at once."""
    model = OpenAICompatibleLanguageModel(
        endpoint=f"{asked['policy']}/v1",
        api_key="none",
        model_name="policy",
        temperature=1.0,
        max_tokens=asked["max_tokens"],
        max_concurrency=256,
    )
    steps = StepGeneration(
        max_steps=_MAX_STEPS, step_token="\n", stop_token=asked["stop"], temperature=1.0
    )
    # the server closes a connection that rests for some seconds, perhaps as it is taken up again
    connector = aiohttp.TCPConnector(limit=256, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        server = Server(asked["reward"], session)
        algorithm: Any
        match asked["algorithm"]:
            case "best-of-n":
                algorithm = BestOfN(Outcomes(server), LMOrchestrator(max_concurrency=256))
            case "beam search":
                algorithm = BeamSearch(steps, Steps(server), beam_width=_BEAM_WIDTH)
            case "particle filtering":
                algorithm = ParticleFiltering(steps, Steps(server))
            case other:
                raise ValueError(f"no algorithm {other!r}")
        try:
            found = await asyncio.gather(  # noqa: TID251 - this package is not here
                *(algorithm.ainfer(model, text, asked["budget"]) for text in asked["questions"])
            )
        finally:
            await model.close()
    return [str(one["content"] or "") for one in found]


def main() -> None:
    """Answers what is asked on standard input."""
    asked = json.load(sys.stdin)
    started = time.perf_counter()
    answers = asyncio.run(answer(asked))
    json.dump({"answers": answers, "seconds": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    main()
