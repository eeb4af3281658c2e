import asyncio
import json

import pytest

from rsalign import Aligner, BestOf, ConfigError, Key, Message, Plain, Prompt, align
from rsalign.journal import Journal, JournaledPolicy, JournaledReward
from rsalign.testing import EOS, ToyPolicy, ToyReward, check_policy, check_reward, check_strategy
from rsalign.types import Response, Stop

PROMPT = Prompt((Message("user", "1"),), (1,))
BEST = BestOf(n=6, inner=Plain(max_tokens=6))


def run(journal, strategy=BEST, policy=None, reward=None):
    return asyncio.run(
        align(
            PROMPT,
            strategy,
            policy=policy or ToyPolicy(4),
            reward=reward or ToyReward(),
            journal=journal,
            seed=3,
        )
    )


def test_replaying_costs_nothing_and_changes_nothing(tmp_path):
    free = run(None)
    with Journal(tmp_path / "j") as journal:
        first = run(journal)
        assert journal.statistics().recorded == 12
    with Journal(tmp_path / "j") as journal:
        again = run(journal)
        assert (journal.statistics().recorded, journal.statistics().replayed) == (0, 12)
    assert (free.usage.replayed, first.usage.replayed, again.usage.replayed) == (0, 0, 6)
    for result in (first, again):
        assert result.candidate == free.candidate
        assert result.trace.proposals == free.trace.proposals
        assert result.usage.policy_tokens_drawn == free.usage.policy_tokens_drawn


def test_what_other_journals_have_is_found_and_they_are_only_read(tmp_path):
    with Journal(tmp_path / "one") as journal:
        run(journal, BestOf(n=4, inner=Plain(max_tokens=6)))
        journal._file.write(b'["torn')  # as another process's may be at any moment
        one = (tmp_path / "one").read_bytes()
        with Journal(tmp_path / "two", also=[tmp_path / "one"]) as mine:
            result = run(mine)
            assert (mine.statistics().replayed, mine.statistics().recorded) == (8, 4)
    assert (tmp_path / "one").read_bytes() == one
    assert result.candidate == run(None).candidate
    (tmp_path / "two").write_text("something else\n")
    with pytest.raises(ConfigError, match="two is not a journal"):
        Journal(tmp_path / "three", also=[tmp_path / "two"])


def test_a_longer_run_pays_for_the_difference(tmp_path):
    with Journal(tmp_path / "j") as journal:
        run(journal, BestOf(n=4, inner=Plain(max_tokens=6)))
        assert journal.statistics().recorded == 8
        eight = run(journal, BestOf(n=8, inner=Plain(max_tokens=6)))
        assert journal.statistics().recorded == 16
    assert eight.candidate == run(None, BestOf(n=8, inner=Plain(max_tokens=6))).candidate


def test_laws_and_models_are_not_mixed_up(tmp_path):
    with Journal(tmp_path / "j") as journal:
        for salt in range(3):
            policy, reward = ToyPolicy(4, salt), ToyReward(salt)
            mine = run(journal, policy=policy, reward=reward)
            assert mine.candidate == run(None, policy=policy, reward=reward).candidate


def test_a_run_that_dies_goes_on(tmp_path):
    class Dies(ToyPolicy):
        calls = 0

        async def extend(self, *given, **named):
            Dies.calls += 1
            if Dies.calls > 3:
                raise RuntimeError("power cut")
            return await super().extend(*given, **named)

        @property
        def fingerprint(self):
            return repr(ToyPolicy(4))

    with Journal(tmp_path / "j") as journal, pytest.raises(RuntimeError, match="power cut"):
        run(journal, policy=Dies(4))
    with Journal(tmp_path / "j") as journal:
        result = run(journal)
        assert journal.statistics().replayed >= 3
        assert result.usage.replayed == 3
    assert result.candidate == run(None).candidate


@pytest.mark.parametrize("seed", range(10))
def test_a_file_cut_anywhere_is_a_shorter_journal(tmp_path, seed):
    with Journal(tmp_path / "j") as journal:
        whole = run(journal)
    content = (tmp_path / "j").read_bytes()
    (tmp_path / "j").write_bytes(content[: Key(seed).below(len(content))])
    with Journal(tmp_path / "j") as journal:
        assert run(journal).candidate == whole.candidate
    assert set((tmp_path / "j").read_bytes().splitlines()) == set(content.splitlines())


def test_another_file_is_refused(tmp_path):
    (tmp_path / "j").write_text("something else\n")
    with pytest.raises(ConfigError, match="not a journal"):
        Journal(tmp_path / "j")
    with pytest.raises(ConfigError, match="cannot open"):
        Journal(tmp_path / "no" / "j")
    assert (tmp_path / "j").read_text() == "something else\n"


def test_one_writer_at_a_time(tmp_path):
    with Journal(tmp_path / "j"), pytest.raises(ConfigError, match="in use"):
        Journal(tmp_path / "j")
    Journal(tmp_path / "j").close()


def test_conformance(tmp_path):
    with Journal(tmp_path / "j") as journal:
        policy = JournaledPolicy(ToyPolicy(4), journal)
        reward = JournaledReward(ToyReward(), journal)
        asyncio.run(check_policy(policy, [(1,), (2, 3)], eos=EOS))
        examples = [
            (PROMPT, Response((1, 2), "1 2", Stop.BOUNDARY)),
            (PROMPT, Response((), "", None)),
        ]
        asyncio.run(check_reward(reward, examples))
        asyncio.run(check_strategy(BEST, PROMPT, policy, reward, eos=EOS))


def test_the_aligner_opens_and_closes_one(tmp_path):
    for _ in range(2):
        with Aligner(ToyPolicy(4), ToyReward(), BEST, journal=tmp_path / "j") as aligner:
            results = aligner.generate(["1", "2"])
    lines = (tmp_path / "j").read_text().splitlines()
    assert json.loads(lines[0]) == "rsalign journal 2"
    assert len(lines) == 1 + 2 * 12
    assert len(results) == 2


@pytest.mark.parametrize("path", [None, 5, b"journal", ["journal"]])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(ConfigError, match=r"Journal\(path=.*give a string, or a file's path"):
        Journal(path)
