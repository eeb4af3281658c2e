"""Answers that a strategy does not give, and components of rewards: in records, grades, exports."""

import pytest

from eval import overrides, resolvers
from eval.analysis.items import is_abstained, score
from eval.export.formats import Choice, accepted, groups
from eval.job import SweepJob
from rsalign import Aligner, BestOf, Constrained, Plain
from rsalign.core.types import Scored
from rsalign.report import write_page
from rsalign.testing import ToyPolicy


class Never:
    fingerprint = "never"

    async def allows(self, prompt, response):
        return False


class Labelled:
    fingerprint = "labelled"

    async def score(self, prompt, response):
        length = float(len(response.tokens))
        return Scored(-length, parts={"length": length, "other": 1.0})


class Odd(Labelled):
    """Excludes answers of an odd number of tokens."""

    fingerprint, excludes = "odd", True

    async def score(self, prompt, response):
        scored = await super().score(prompt, response)
        return Scored(0.0, excluded=True) if len(response.tokens) % 2 else scored


@pytest.fixture(scope="module")
def job():
    resolvers.register()
    chosen = ["strategy=best_of", "tokens=true", "task.limit=1"]
    config = overrides.compose_config(chosen)
    return config, SweepJob.of(config)


@pytest.fixture
def record(job):
    config, job = job
    item = next(iter(job.task.load()))

    def make(reward, n=6):
        strategy = BestOf(n=n, inner=Plain(max_tokens=6))
        with Aligner(ToyPolicy(4), reward, strategy) as aligner:
            (output,) = aligner.generate(["1 2"], use_tqdm=False)
            with job.grading(config) as grading:
                return output, job.record(output, item, grading), aligner.policy

    return make


def test_an_abstention_is_a_finished_answer_that_is_no_success(record):
    output, found, _ = record(Constrained(None, Never()))
    assert output.outputs[0].finish_reason == "abstained"
    assert found["error"] is None
    assert found["answers"][0]["finish_reason"] == "abstained"
    assert found["grade"]["score"] == 0.0
    assert "allowed" in found["grade"]["details"]["abstained"]
    assert is_abstained(found)
    assert score(found) == 0.0
    assert found["candidates"] == []
    assert all(one["excluded"] for one in found["proposals"])
    assert list(accepted(found, Choice())) == list(groups(found, Choice())) == []


def test_components_are_beside_each_reward(record, tmp_path):
    output, found, policy = record(Labelled())
    best = output.outputs[0]
    assert best.components == {"length": -best.reward, "other": 1.0}
    assert found["answers"][0]["components"] == best.components
    for one in [*found["candidates"], *found["proposals"]]:
        assert one["components"] == {"length": -one["reward"], "other": 1.0}
    assert not is_abstained(found)
    (row,) = accepted(found, Choice())
    assert row["components"] == best.components
    write_page([output], tmp_path / "page.html", decode=policy.text)
    page = (tmp_path / "page.html").read_text()
    assert f"(length {-best.reward:.4g}, other 1)" in page


def test_what_is_excluded_is_no_candidate(record, tmp_path):
    output, found, policy = record(Odd(), n=12)
    excluded = [one for one in found["proposals"] if one.get("excluded")]
    assert excluded
    assert len(found["candidates"]) == len(found["proposals"]) - len(excluded) > 0
    assert all(one["num_tokens"] % 2 == 0 for one in found["candidates"])
    (row,) = groups(found, Choice())
    assert len(row["samples"]) == len(found["candidates"])
    write_page([output], tmp_path / "page.html", decode=policy.text)
    assert "none: not allowed" in (tmp_path / "page.html").read_text()
