"""The commands that the documentation shows, as a reader would run them."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from serving import KEY

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl"),
]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", ["docs/serving.md"])
def test_curl_gets_an_aligned_answer(server, page):
    """With the address and the key of this server."""
    (command,) = re.findall(r"^curl .*?^}'$", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    command = command.replace("http://127.0.0.1:8000", server.address)
    command = command.replace("curl ", f"curl -sS -m 60 -H 'Authorization: Bearer {KEY}' ", 1)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["choices"][0]["message"]["content"]
    assert answer["rsalign"]["strategy"] == "best_of"
    assert answer["rsalign"]["reward_calls"] == 8
