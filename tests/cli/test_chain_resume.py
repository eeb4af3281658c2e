"""`rsalign generate` is killed amid its chains, and ends as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time

import forked
import pytest

from rsalign import Aligner, QAlign, Sampling
from rsalign.embedded.problems import problems
from rsalign.selectors import MajorityVote
from rsalign.selectors.extraction import LastNumber

pytestmark = pytest.mark.engine

ASKED = problems("heldout", 2)
STEPS, CHAINS, SEED, MAX_TOKENS = 25, 2, 4, 64
SETTINGS = ("beta=2", "chains=2", "tempering=4", "answer=majority_vote")


def command(source, target, journal, page, steps=STEPS):
    settings = (*SETTINGS, f"steps={steps}", "answer.extract=last_number")
    return [
        *(sys.executable, "-m", "rsalign.cli.main", "generate", str(source), "-o", str(target)),
        *("--chat", "--strategy", "qalign", "--max-tokens", str(MAX_TOKENS), "--seed", str(SEED)),
        *(argument for setting in settings for argument in ("--set", setting)),
        *("--journal", str(journal), "--trace", str(page)),
        *("--engine-arg", "kv_cache_memory_bytes=67108864"),
        *("--reward-arg", "kv_cache_memory_bytes=67108864"),
    ]


def draws(journal):
    """Requests for draws that are on record: their answers begin with tokens."""
    lines = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    return [request for request, answer in lines if isinstance(answer[0], list)]


def test_killed_amid_its_chains(tmp_path, policy, reward):
    source, target = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    journal, page = tmp_path / "journal", tmp_path / "page.html"
    source.write_text("".join(f"{p.question}\n" for p in ASKED))
    num_draws = len(ASKED) * CHAINS * 2 * (1 + STEPS)

    host = forked.Popen(command(source, target, journal, page), stderr=subprocess.DEVNULL)
    while host.poll() is None and (not journal.exists() or len(draws(journal)) < num_draws / 3):
        time.sleep(0.05)
    assert host.poll() is None, "it was over before it could be killed"
    os.kill(host.pid, signal.SIGKILL)
    host.wait(timeout=60)
    paid = len(draws(journal))
    assert num_draws / 3 <= paid < num_draws
    assert target.read_text() == ""

    done = forked.run(
        command(source, target, journal, page), capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    on_record = draws(journal)
    assert len(on_record) == len(set(on_record)) == num_draws, "a draw was paid for twice"

    strategy = QAlign(
        steps=STEPS,
        max_tokens=MAX_TOKENS,
        beta=2,
        chains=CHAINS,
        tempering=(4.0,),
        answer=MajorityVote(extract=LastNumber()),
    )
    with Aligner(policy, reward, strategy, seed=SEED) as aligner:
        conversations = [[{"role": "user", "content": p.question}] for p in ASKED]
        whole = aligner.chat(conversations, Sampling(), use_tqdm=False)
    records = {r["index"]: r for r in map(json.loads, target.read_text().splitlines())}
    for i, uncut in enumerate(whole):
        assert records[i]["answer"] == uncut.outputs[0].text
        assert records[i]["reward"] == uncut.outputs[0].reward
        expected = json.loads(json.dumps(uncut.alignment.diagnostics))
        assert records[i]["diagnostics"] == expected
        assert records[i]["usage"]["reward_calls"] == uncut.alignment.usage.reward_calls
    text = page.read_text()
    for i, problem in enumerate(ASKED):
        assert f'id="p{i}"' in text
        assert problem.question.split(".")[0] in text

    # the file is complete: a page is made of the journal, and no record is written twice
    before, size = target.read_bytes(), journal.stat().st_size
    page.unlink()
    again = forked.run(
        command(source, target, journal, page), capture_output=True, text=True, timeout=200
    )
    assert again.returncode == 0, again.stderr
    assert (target.read_bytes(), journal.stat().st_size) == (before, size)
    assert page.read_text().count('class="row step') == num_draws - len(ASKED) * CHAINS * 2


def test_a_page_that_cannot_be_written_is_refused_first(tmp_path):
    source = tmp_path / "prompts.txt"
    source.write_text("1\n")
    done = forked.run(
        command(source, tmp_path / "out", tmp_path / "j", tmp_path / "no" / "page.html"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "cannot write the page" in done.stderr
    assert not (tmp_path / "j").exists()
