"""Whatever prompts, models, functions and errors say is shown, and never run."""

import pytest
from page_reader import read

from rsalign import Aligner, BestOf, Cards, Constant, FixedSize, Plain, QAlign
from rsalign.report.page import render_page
from rsalign.selectors import MajorityVote
from rsalign.testing import ToyPolicy, ToyReward

EVIL = [
    "<script>alert(1)</script>",
    "</p></li></details></main><img src=x onerror=alert(1)>",
    "\"' onmouseover=alert(1) x=\"'",
    "</title></text></svg><svg onload=alert(1)>",
    "</style><style>*{background:url(http://x)}",
    "{{ 7 * 7 }}{% include 'page.html' %}",
    "&lt;b&gt; &amp; ]]> <!-- -->",
    "javascript:alert(1)",
]
STRATEGIES = {
    "chains": QAlign(steps=12, max_tokens=6, chains=2, answer=MajorityVote(extract=str.strip)),
    "segments": Cards(segmenter=FixedSize(1), threshold=Constant(value=1.5), max_tokens=6),
    "pool": BestOf(n=6, inner=Plain(max_tokens=6), select=MajorityVote(extract=str.strip)),
    "plain": Plain(max_tokens=6),
}


class Evil(ToyPolicy):
    def text(self, tokens):
        return "".join(EVIL[(token - 1) % len(EVIL)] for token in tokens if token)

    def encode(self, text):
        return (1, 2)


@pytest.fixture(params=STRATEGIES.values(), ids=STRATEGIES)
def strategy(request):
    return request.param


def test_texts_are_shown_and_not_run(strategy):
    policy = Evil(9)
    with Aligner(policy, ToyReward(), strategy, seed=1) as aligner:
        found = aligner.generate(EVIL, use_tqdm=False)
    root = read(render_page(found, decode=policy.text))  # refuses all that could run
    assert len(root.all("style")) == 1
    for i, output in enumerate(found):
        (exchange,) = (
            e.one("div", "exchange")
            for e in root.all("details", "prompt")
            if e.attributes["id"] == f"p{i}"
        )
        assert EVIL[i] in exchange.text
        assert output.outputs[0].text in exchange.text
    said = {text for text in EVIL if any(text in o.outputs[0].text for o in found)}
    assert len(said) > 4, "the test says too little"


def test_errors_and_names_are_shown_and_not_run():
    def broken(prompt, response):
        raise ValueError(EVIL[1])

    prompts = [{"prompt": "1", "id": EVIL[2]}, {"prompt": "1", "id": EVIL[0]}]
    with Aligner(Evil(9), broken, BestOf(n=2, inner=Plain(max_tokens=3))) as aligner:
        found = aligner.generate(prompts, use_tqdm=False, on_error="return")
    root = read(render_page(found, decode=Evil(9).text))
    assert EVIL[1] in root.one("main").text
    assert EVIL[2] in root.one("main").text
