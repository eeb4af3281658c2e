"""Small pools of candidates, for examples and first tests of selectors."""

from collections.abc import Sequence

from rsalign.core.key import Key
from rsalign.core.types import Candidate, Prompt, Response, Stop


def example_pool(*rewards: float, texts: Sequence[str] = ()) -> tuple[Prompt, list[Candidate], Key]:
    """A prompt, candidates with these rewards and a key: the arguments of `Selector.select`.

    Args:
        rewards: of the candidates, ``(candidates,)``.
        texts: of the candidates; by default "0", "1", "2" and so on.

    Example:
        >>> _, candidates, _ = example_pool(0.5, 2.0)
        >>> [(one.response.text, one.reward) for one in candidates]
        [('0', 0.5), ('1', 2.0)]
    """
    texts = texts or [str(i) for i in range(len(rewards))]
    candidates = [
        Candidate(Response((i + 1,), text, Stop.EOS, (-1.0,)), reward)
        for i, (text, reward) in enumerate(zip(texts, rewards, strict=True))
    ]
    return Prompt((), (1,)), candidates, Key(0)
