"""`rsalign generate` is killed at random moments, and goes on as if it never had been."""

import json
import os
import signal
import subprocess
import sys
import time

import forked
import pytest

from rsalign import Key
from rsalign.embedded.problems import problems

pytestmark = pytest.mark.engine


def command(source, target, n, journal):
    return [
        *(sys.executable, "-m", "rsalign.cli.main", "generate", str(source), "-o", str(target)),
        *("--chat", "--set", f"n={n}", "--max-tokens", "96", "--seed", "4"),
        *("--journal", str(journal)),
        *("--engine-arg", "kv_cache_memory_bytes=67108864"),
        *("--reward-arg", "kv_cache_memory_bytes=67108864"),
    ]


def finish(*arguments):
    done = forked.run(command(*arguments), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def answers(path):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({r["index"] for r in records}) == len(records), "a record was written twice"
    for record in records:
        # the caches of a killed run are lost with it, and its journal is replayed
        for varies in ("seconds", "replayed", "cached_tokens", "reward_cached_tokens"):
            del record["usage"][varies]
    return sorted(records, key=lambda r: r["index"])


@pytest.mark.parametrize("num_kills", [1, pytest.param(3, marks=pytest.mark.nightly)])
def test_killed_at_random_moments(tmp_path, num_kills):
    """Kills fall between the first and the last record of the journal."""
    source = tmp_path / "prompts.txt"
    source.write_text("".join(f"{p.question}\n" for p in problems("heldout", 24)))
    whole = tmp_path / "whole.jsonl"
    finish(source, whole, 12, tmp_path / "whole.journal")
    size = (tmp_path / "whole.journal").stat().st_size

    target, journal = tmp_path / "killed.jsonl", tmp_path / "killed.journal"
    kills = 0
    for attempt in range(num_kills):
        host = forked.Popen(command(source, target, 12, journal), stderr=subprocess.DEVNULL)
        done = journal.stat().st_size if journal.exists() else 0
        until = done + (size - done) * (1 + Key(5, (attempt,)).below(60)) // 100
        while host.poll() is None and (not journal.exists() or journal.stat().st_size < until):
            time.sleep(0.002)
        if host.poll() is None:
            os.kill(host.pid, signal.SIGKILL)
            kills += 1
        host.wait(timeout=60)
    assert kills == num_kills
    finish(source, target, 12, journal)
    assert answers(target) == answers(whole)
    # what was paid for before a kill was not paid for again
    lines = journal.read_text().splitlines()[1:]
    requests = [json.loads(line)[0] for line in lines]
    draws = {json.loads(line)[0] for line in lines if isinstance(json.loads(line)[1][0], list)}
    assert len(draws) == 24 * 12
    assert sum(request in draws for request in requests) == 24 * 12, "a draw was paid for twice"

    longer = tmp_path / "longer.jsonl"
    before = len(requests)
    finish(source, longer, 16, journal)
    after = [json.loads(line) for line in journal.read_text().splitlines()[1:]]
    new_draws = [answer for _, answer in after[before:] if isinstance(answer[0], list)]
    assert len(new_draws) == 24 * 4, "n = 16 after n = 12 pays for 4"


def test_a_complete_file_is_left_alone_and_another_run_is_refused(tmp_path):
    source, target = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("First 1 + 1\n")
    finish(source, target, 2, tmp_path / "j")
    before = target.read_bytes()
    finish(source, target, 2, tmp_path / "j")
    assert target.read_bytes() == before
    refused = forked.run(
        command(source, target, 3, tmp_path / "j"), capture_output=True, text=True, timeout=60
    )
    assert refused.returncode == 2
    assert "another run" in refused.stderr
    assert target.read_bytes() == before
