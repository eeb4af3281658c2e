"""The page says what happened, all of it that it has room for, and nothing else."""

import math
from collections import Counter
from dataclasses import dataclass

import pytest
from page_reader import read

from rsalign import (
    Aligner,
    Beam,
    BestOf,
    Budget,
    Calibrate,
    Cards,
    ConfigError,
    Constant,
    Dvts,
    EarlyDrop,
    FixedSize,
    Line,
    ParticleGibbs,
    Particles,
    Plain,
    QAlign,
    TreeSearch,
    Verdict,
)
from rsalign.chains.cuts import FixedCuts
from rsalign.report import write_page
from rsalign.report.moves import read_moves, traces_with_label
from rsalign.report.page import render_page
from rsalign.segments.acceptance import SoftAcceptance
from rsalign.selectors import MajorityVote
from rsalign.selectors import Soft as SoftSelector
from rsalign.selectors.extraction import LastNumber
from rsalign.strategies.power import Power
from rsalign.strategies.rejection import Rejection
from rsalign.testing import ToyPolicy, ToyReward

VOTE = MajorityVote(extract=LastNumber())
PLAIN = Plain(max_tokens=8)
CARDS = Cards(
    segmenter=FixedSize(2),
    threshold=Line(target=2.0),
    acceptance=SoftAcceptance(beta=0.5),
    max_tokens=12,
    max_tries=3,
)
CHAINS = {
    "one chain": QAlign(steps=15, max_tokens=8),
    "chains that vote": QAlign(steps=9, max_tokens=8, chains=3, burn_in=2, answer=VOTE),
    "replicas, several candidates, a pool": QAlign(
        steps=8, max_tokens=8, chains=2, tempering=(2.0, math.inf), candidates=3, pool=4
    ),
    "cuts behind the end": QAlign(steps=15, max_tokens=12, cuts=FixedCuts(decay=0.9)),
    "no reward": Power(steps=6, alpha=2.0, max_tokens=6),
}
OTHERS = {
    "plain": PLAIN,
    "best of": BestOf(n=5, inner=PLAIN),
    "best of, by vote": BestOf(n=7, inner=PLAIN, select=VOTE),
    "best of, softly": BestOf(n=4, inner=PLAIN, select=SoftSelector(temperature=1.0)),
    "best of chains": BestOf(n=2, inner=QAlign(steps=3, max_tokens=8)),
    "best of segments": BestOf(n=2, inner=CARDS),
    "segments": CARDS,
    "calibrated segments": Calibrate(inner=CARDS, draws=4),
    "rejection": Rejection(beta=0.5, bound=2.0, max_tokens=8, max_draws=6),
}
POPULATIONS = {
    "particles": Particles(n=5, segmenter=FixedSize(2), max_tokens=8, ess_threshold=1.0),
    "moved particles": Particles(n=3, segmenter=FixedSize(2), max_tokens=8, rejuvenate=1),
    "beam": Beam(width=2, branch=3, segmenter=FixedSize(2), max_tokens=8),
    "dvts": Dvts(subtrees=3, branch=2, segmenter=FixedSize(2), max_tokens=8),
    "early drop": EarlyDrop(n=6, first=2, max_tokens=8),
}
OTHERS |= POPULATIONS | {
    "best of populations": BestOf(n=2, inner=POPULATIONS["beam"]),
    "chain with populations": QAlign(
        steps=6, max_tokens=8, moves=(ParticleGibbs(segmenter=FixedSize(2), share=0.5),)
    ),
}
TOY = ToyPolicy(6)


def outputs(strategy, *, prompts=("1 2", "3"), policy=TOY, **given):
    with Aligner(policy, given.pop("reward", ToyReward()), strategy, seed=4) as aligner:
        return aligner.generate(list(prompts), use_tqdm=False, **given)


def drawn(strategy, decode=TOY.text, **given):
    found = outputs(strategy, **given)
    return read(render_page(found, decode=decode)), found


def section(root, i):
    return next(e for e in root.all("details", "prompt") if e.attributes["id"] == f"p{i}")


@pytest.mark.parametrize("strategy", (CHAINS | OTHERS).values(), ids=CHAINS | OTHERS)
def test_prompts_and_answers(strategy):
    root, found = drawn(strategy)
    assert repr(strategy) in root.one("header").text
    assert len(root.all("details", "prompt")) == len(found)
    for i, output in enumerate(found):
        (asked,) = section(root, i).all("div", "exchange")
        assert output.prompt in asked.text
        answer = asked.one("div", "answer")
        assert answer.all("p", "text")[0].text.startswith(output.outputs[0].text)
        if output.outputs[0].reward is not None:
            assert f"reward {output.outputs[0].reward:.4g}" in answer.text


@pytest.mark.parametrize("strategy", CHAINS.values(), ids=CHAINS)
def test_every_step_of_every_chain(strategy):
    root, found = drawn(strategy)
    for i, output in enumerate(found):
        here = section(root, i)
        traces = {}
        for c, chain in traces_with_label(output.alignment.trace, "chain"):
            traces[f"p{i}-0-{c}"] = chain
            for j, replica in traces_with_label(chain, "replica"):
                traces[f"p{i}-0-{c}-replica-{j}"] = replica
        rows = here.all("li", "step")
        assert len(rows) == sum(
            len(read_moves(trace).steps) for trace in traces.values() if trace.proposals
        )
        for anchor, trace in traces.items():
            check_steps(anchor, trace, {row.attributes["id"]: row for row in rows})


def check_steps(anchor, trace, rows):
    for proposal in trace.proposals:
        step = proposal.address[proposal.address.index("step") + 1]
        row = rows[f"{anchor}-{step + 1}"]
        candidate, state = proposal.candidate, proposal.state
        number = proposal.address[-1]
        (shown,) = [one for n, one in enumerate(row.all("div", "try")) if n == number]
        kept, new = TOY.text(candidate.tokens[: proposal.kept]), shown.one("mark").text
        assert shown.one("span", "kept").text == kept
        assert kept + new == candidate.response.text
        assert shown.one("b", "verdict").text == proposal.verdict
        assert f"reward {state.reward:.4g} → {candidate.reward:.4g}" in shown.text
        assert f"kept {proposal.kept} of {len(state.tokens)}" in row.text
        replaced = row.one("div", "replaced").one("p", "text").all("span")[0].text
        assert kept + replaced == state.response.text
        taken = any(
            p.verdict is Verdict.ACCEPTED
            for p in trace.proposals
            if p.address[:-1] == proposal.address[:-1]
        )
        assert ("accepted" in row.attributes["class"].split()) == taken


@pytest.mark.parametrize("strategy", CHAINS.values(), ids=CHAINS)
def test_the_reward_trace_is_that_of_the_states(strategy):
    for output in outputs(strategy):
        rewards = output.alignment.diagnostics["rewards"]
        size = strategy.steps + 1 - strategy.burn_in
        for c, chain in traces_with_label(output.alignment.trace, "chain"):
            found = read_moves(chain, strategy.steps)
            assert found.rewards[strategy.burn_in :] == rewards[c * size : (c + 1) * size]


def test_exchanges_between_replicas_are_marked():
    strategy = QAlign(steps=12, max_tokens=20, tempering=(3.0,))
    root, found = drawn(strategy, policy=ToyPolicy(40))
    for i, output in enumerate(found):
        num_exchanges = round(output.alignment.diagnostics["swap_rate"] * (strategy.steps - 1))
        assert num_exchanges > 0
        for anchor in (f"p{i}-0-0", f"p{i}-0-0-replica-1"):  # both lose and get a state
            rows = [root_row(root, f"{anchor}-{t}") for t in range(1, strategy.steps + 1)]
            assert sum("exchanged" in row.text for row in rows) == num_exchanges


def root_row(root, anchor):
    (row,) = [row for row in root.all("li", "step") if row.attributes["id"] == anchor]
    return row


def test_drawings_are_to_scale():
    root, (output,) = drawn(QAlign(steps=20, max_tokens=9), prompts=("1",))
    rewards, *_, cuts, acceptance = section(root, 0).all("svg")
    (chain,) = output.alignment.trace.children.values()
    dots = sorted(rewards.all("circle"), key=lambda dot: float(dot.attributes["cx"]))
    assert len(dots) == len(chain.proposals) == 20
    heights = [
        (p.candidate.reward, float(d.attributes["cy"]))
        for p, d in zip(chain.proposals, dots, strict=True)
    ]
    (r0, y0), (r1, y1) = min(heights), max(heights)
    for reward, y in heights:
        assert y - y0 == pytest.approx((reward - r0) * (y1 - y0) / (r1 - r0), abs=0.11)
    assert y1 < y0, "better is higher"
    columns = cuts.all("rect")
    unit = max(float(c.attributes["height"]) for c in columns) / max(
        max(p.kept, len(p.candidate.tokens) - p.kept) for p in chain.proposals
    )
    for t, proposal in enumerate(chain.proposals):
        kept, new = columns[2 * t : 2 * t + 2]
        assert float(kept.attributes["height"]) == pytest.approx(unit * proposal.kept, abs=0.11)
        length = len(proposal.candidate.tokens) - proposal.kept
        assert float(new.attributes["height"]) == pytest.approx(unit * length, abs=0.11)
        assert new.attributes["class"] == proposal.verdict
        assert float(kept.attributes["x"]) == float(new.attributes["x"])
    assert sum(float(e.text.split()[0]) for e in acceptance.all("title")[::2]) == sum(
        p.verdict is Verdict.ACCEPTED for p in chain.proposals
    )


def test_steps_that_do_not_count_are_marked():
    strategy = CHAINS["chains that vote"]
    root, _ = drawn(strategy)
    rows = section(root, 0).all("li", "step")
    unused = {row.attributes["id"] for row in section(root, 0).all("li", "step unused")}
    assert unused == {row.attributes["id"] for row in rows if row.attributes["id"][-2:] == "-1"}


@pytest.mark.parametrize("strategy", [CHAINS["chains that vote"], OTHERS["best of, by vote"]])
def test_votes_are_those_of_the_strategy(strategy):
    root, found = drawn(strategy)
    for i, output in enumerate(found):
        notes = output.alignment.diagnostics
        table = section(root, i).one("table", "votes")
        shares = {
            row.one("th").text: float(row.one("meter").attributes["value"])
            for row in table.all("tr")
        }
        assert math.fsum(shares.values()) == pytest.approx(1)
        for answer, share in zip(notes["answers"], notes["vote_shares"], strict=True):
            if answer is not None:
                assert shares[answer] == pytest.approx(share)
        assert table.one("tr", "elected").one("th").text == notes["answer"]
        number = Counter(notes["answers"])[notes["answer"]]
        assert f"{number} response" in table.one("tr", "elected").text


@pytest.mark.parametrize("name", ["segments", "calibrated segments"])
def test_segments_and_their_tries(name):
    strategy = OTHERS[name]
    root, found = drawn(strategy, prompts=("1 2", "3", "4 1 1"))
    forced = 0
    for i, output in enumerate(found):
        here, trace = section(root, i), output.alignment.trace
        mosaic = here.one("p", "mosaic")
        assert "".join(e.text for e in mosaic.all("a")) == output.outputs[0].text
        cards = getattr(strategy, "inner", strategy)
        threshold = cards.threshold.with_target(trace.notes.get("target", cards.threshold.target))
        tries = here.all("div", "try")
        recorded = [p for p in trace.proposals if p.verdict is not Verdict.FORCED]
        assert len(tries) == len(recorded)
        for shown in tries:
            matching = [
                p
                for p in trace.proposals
                if shown.one("p", "text").text.startswith(p.candidate.response.text)
                and f"reward {p.candidate.reward:.4g}" in shown.text
                and shown.one("b", "verdict").text == p.verdict
            ]
            assert matching
            bar = threshold.at(
                len(matching[0].candidate.tokens),
                prompt_reward=trace.notes["prompt_reward"],
                max_tokens=cards.max_tokens,
            )
            assert f"threshold {bar:.4g}" in shown.text
        forced += len(here.all("div", "try forced"))
        assert len(here.all("div", "try forced")) == trace.notes["num_forced"]
        assert here.all("polyline", "threshold")
    assert forced or name != "segments"


def test_candidates_the_taken_one_first():
    root, found = drawn(OTHERS["best of"])
    for i, output in enumerate(found):
        cards = section(root, i).one("ol", "pool").all("li")
        proposals = output.alignment.trace.proposals
        assert [int(card.all("b")[0].text) for card in cards] == sorted(
            range(5), key=lambda n: -proposals[n].candidate.reward
        )
        for card in cards:
            proposal = proposals[int(card.all("b")[0].text)]
            assert card.one("mark").text == proposal.candidate.response.text
            assert ("taken" in card.text) == (proposal.verdict is Verdict.ACCEPTED)
        (strip,) = section(root, i).all("svg")
        assert len(strip.all("circle")) == 5
        assert len(strip.all("circle", "accepted")) == 1


@pytest.mark.parametrize("name", ["best of chains", "best of segments"])
def test_runs_inside_a_run_have_their_own_view(name):
    root, _ = drawn(OTHERS[name])
    runs = {e.all("summary")[0].text: e for e in section(root, 0).all("details", "run")}
    for i in range(2):
        assert runs[f"candidate {i}"].all("svg")
        assert runs[f"candidate {i}"].all("li", "row")


def test_several_answers_have_a_run_each():
    class Tunable(ToyPolicy):
        def with_sampling(self, sampling):
            return self

    @dataclass
    class Params:
        n: int = 3
        seed: int | None = None
        max_tokens: int | None = 8
        temperature: float = 1.0
        top_p: float = 1.0
        top_k: int = 0
        min_p: float = 0.0
        repetition_penalty: float = 1.0
        logit_bias: dict | None = None
        allowed_token_ids: list | None = None
        stop: str | None = None
        stop_token_ids: list | None = None

    root, found = drawn(
        QAlign(steps=3), policy=Tunable(6), prompts=("1",), sampling_params=Params()
    )
    assert len(root.all("div", "answer")) == 3
    assert [e.text for e in root.all("h2") if e.text.startswith("Run")] == [
        "Run 1",
        "Run 2",
        "Run 3",
    ]
    assert len(root.all("li", "step")) == 9
    assert len(found[0].outputs) == 3


def test_a_prompt_that_failed():
    def picky(prompt, response):
        if prompt == "3":
            raise ValueError("no threes")
        return 1.0

    root, _ = drawn(BestOf(n=2, inner=PLAIN), reward=picky, on_error="return")
    assert "no threes" in section(root, 1).text
    assert "1 failed" in root.one("header").text
    assert section(root, 0).one("div", "answer")


@pytest.mark.parametrize("strategy", (CHAINS | OTHERS).values(), ids=CHAINS | OTHERS)
@pytest.mark.parametrize("calls", [1, 3, 6])
def test_a_run_that_a_budget_ended(strategy, calls):
    root, found = drawn(strategy, budget=Budget(reward_calls=calls))
    assert any(o.alignment.expired for o in found) == ("expired" in root.one("main").text)
    for i, output in enumerate(found):
        assert output.outputs[0].text in section(root, i).text


def test_a_long_run_is_shown_in_part_and_says_so():
    strategy = QAlign(steps=1100, max_tokens=3, chains=2)
    root, found = drawn(strategy, prompts=("1",))
    rows = root.all("li", "step")
    assert 1000 < len(rows) <= 2000
    hidden = [int(e.text.split()[0]) for e in root.all("li", "gap")]
    assert sum(hidden) + len(rows) == 2 * 1100
    assert "those of the steps that are listed" in root.one("main").text
    ends = {int(row.attributes["id"].rpartition("-")[2]) for row in rows}
    assert {1, 1100} <= ends
    many = read(render_page(found * 150, decode=TOY.text))
    assert len(many.all("details", "prompt")) == 50
    assert "first 50 prompts" in many.one("header").text
    assert 200 <= len(many.all("li", "step")) <= 2000


@pytest.mark.parametrize(
    "strategy",
    [
        QAlign(steps=60, max_tokens=50, chains=3, tempering=(2.0, 4.0), candidates=2),
        Cards(segmenter=FixedSize(1), threshold=Constant(value=1.9), max_tokens=50),
        BestOf(n=200, inner=Plain(max_tokens=50)),
    ],
    ids=["chains", "segments", "pool"],
)
def test_a_page_stays_small(strategy):
    """With answers of up to 10,000 characters, and a hundred prompts."""

    class Wordy(ToyPolicy):
        def text(self, tokens):
            return "".join(f"{'word' * 50}{token}. " for token in tokens)

        def probs(self, prefix):
            return (0.02, 0.58, 0.4)

    found = outputs(strategy, prompts=("1",), policy=Wordy())
    one, many = (render_page(found * n, decode=Wordy().text) for n in (1, 100))
    assert "more characters" in one or "characters before" in one
    assert max(len(one.encode()), len(many.encode())) < 10e6


def test_write_page(tmp_path):
    found = outputs(PLAIN)
    write_page(found, tmp_path / "out.html", decode=TOY.text)
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == render_page(
        found, decode=TOY.text
    )
    with pytest.raises(ConfigError, match="cannot write the page"):
        write_page(found, tmp_path / "no" / "out.html", decode=TOY.text)
    read(render_page([], decode=TOY.text))


@pytest.mark.parametrize("strategy", POPULATIONS.values(), ids=POPULATIONS)
def test_a_population_is_a_tree_of_all_drafts(strategy):
    root, found = drawn(strategy)
    for i, output in enumerate(found):
        here = section(root, i)
        drafts = [
            one for one in output.alignment.trace.proposals if one.address[-2:-1] == ("particle",)
        ]
        assert len(here.all("circle")) == len(here.all("polyline", "branch")) == len(drafts)
        died = [one for one in drafts if one.verdict is Verdict.REJECTED]
        assert len(here.all("circle", "rejected")) == len(died)
        shown = here.all("div", "try")
        assert len(shown) == len(drafts)
        for row, draft in zip(shown, drafts, strict=True):
            assert f"reward {draft.candidate.reward:.4g}" in row.text
            assert ("died" in row.text) == (draft.verdict is Verdict.REJECTED)
            kept = TOY.text(draft.candidate.tokens[: draft.kept])
            assert kept + row.one("mark").text == draft.candidate.response.text


def test_a_tree_shows_values_and_visits_of_all_drafts():
    strategy = TreeSearch(segmenter=FixedSize(2), rounds=4, branch=2, max_tokens=8)
    root, found = drawn(strategy)
    for i, output in enumerate(found):
        here, notes = section(root, i), output.alignment.diagnostics
        drafts = output.alignment.trace.proposals[:-1]
        assert len(here.all("circle")) == len(here.all("polyline", "branch")) == len(drafts)
        rows = here.all("li", "row")
        for j, (row, draft) in enumerate(zip(rows, drafts, strict=True)):
            assert f"value {notes['values'][j]:.4g}" in row.text
            assert f"visits {notes['visits'][j]:.0f}" in row.text
            assert f"reward {draft.candidate.reward:.4g}" in row.text
            parent = int(notes["parents"][j])
            assert (f"after {parent}" if parent else "first") in row.text
            assert ("roll-out" in row.text) == ("rollout" in draft.address)


def test_weights_and_sample_sizes_of_particles_are_shown():
    root, (output, _) = drawn(POPULATIONS["particles"])
    notes, rows = output.alignment.diagnostics, section(root, 0).all("li", "row")
    assert len(rows) == notes["num_rounds"] == len(notes["ess_by_round"])
    for row, size in zip(rows, notes["ess_by_round"], strict=True):
        assert f"ESS {size:.4g}" in row.text
    first = rows[0].all("div", "try")
    for number, row in enumerate(first):
        assert f"ln W {notes['log_weights'][number]:.4g}" in row.text
