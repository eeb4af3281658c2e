"""A toy model that thinks: its token 1 ends the thought. Rewards read the answer alone."""

from dataclasses import dataclass

from rsalign.core.text.reasoning import Division, Reasoning
from rsalign.testing import ToyPolicy, ToyReward

END = 1
DIVIDED = Reasoning("toy")


@dataclass(frozen=True, slots=True)
class ThinkingPolicy(ToyPolicy):
    """A `ToyPolicy` whose text is divided at the first token 1."""

    how: Reasoning = DIVIDED

    @property
    def divides(self):
        return True

    def divide(self, prompt, tokens, text, *, complete):
        thought, answer = divided(tokens)
        return Division(text, thought, answer).text(self.how, complete=complete), thought


@dataclass(frozen=True, slots=True)
class ReadingReward(ToyReward):
    """A `ToyReward` of what it reads as the text of a response, and not of its tokens."""

    def of_text(self, text):
        return self.value(tuple(map(int, text.split())))

    async def score(self, prompt, response):
        return self.of_text(response.text)


def divided(tokens):
    words = [str(token) for token in tokens if token != 0]
    if str(END) not in words:
        return " ".join(words) or None, None
    end = words.index(str(END))
    return " ".join(words[:end]) or None, " ".join(words[end + 1 :])
