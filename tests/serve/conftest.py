"""One server for the whole session, with every option on that tests need."""

import json
from collections.abc import Iterator

import openai
import pytest
from collector import Collector
from serving import KEY, Served, rsalign_serve

from rsalign.embedded import STRONG


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    """What the server sends its traces to."""
    collector = Collector()
    yield collector
    collector.stop()


@pytest.fixture(scope="session")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Served]:
    """`rsalign serve` on the embedded models."""
    served = Served(
        tmp_path_factory.mktemp("serve") / "log",
        rsalign_serve(
            *("--reward", "temperamental:reward", "--reward-timeout", "3"),
            *("--part", "judge=temperamental:judge"),
            *("--max-concurrent-requests", "48", "--max-waiting-requests", "2"),
            *("--max-strategy-size", "4096", "--max-policy-tokens-per-request", "6000"),
            *("--sse-keep-alive-interval", "1", "--enable-prompt-tokens-details"),
            *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
            *("--otlp-traces-endpoint", collector.endpoint),
            *("--additional-config", json.dumps({"rsalign_guides": [STRONG]})),
        ),
        OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf",
        OTEL_BSP_SCHEDULE_DELAY="200",
    )
    try:
        for engine in ("policy", "reward"):  # these start meanwhile
            request.getfixturevalue(engine)
        yield served.wait()
        assert served.stop() == 0, served.log.read_text()[-5000:]
    finally:
        served.stop()


@pytest.fixture(scope="session")
def client(server: Served) -> Iterator[openai.OpenAI]:
    """OpenAI's own client of the server."""
    with openai.OpenAI(base_url=f"{server.address}/v1", api_key=KEY, max_retries=0) as client:
        yield client
