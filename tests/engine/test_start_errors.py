"""What cannot be started is refused in words, before an engine is built where files can tell."""

import json

import pytest
from safetensors.torch import load_file, save_file
from used_up import save_model

from rsalign import ConfigError
from rsalign.engines.vllm.building import engine_arguments
from rsalign.engines.vllm.model_folder import check_model
from rsalign.engines.vllm.start_errors import convert_start_errors
from rsalign.engines.vllm.starting import start_engine

pytestmark = pytest.mark.engine


def adapter(folder):
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')


def gguf(folder):
    (folder / "model-q4.gguf").write_bytes(b"GGUF")


def config(folder, text="{}"):
    (folder / "config.json").write_text(text)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ([], "has no config.json: give the folder"),
        ([adapter], r"adapter \(LoRA\).* give the model org/base with lora="),
        ([gguf], "in the format GGUF"),
        ([config, gguf], "in the format GGUF"),
        ([config], r"no weights \(\*.safetensors"),
        ([lambda folder: config(folder, "{")], "config.json is not valid JSON"),
        ([lambda folder: config(folder, "[1]")], "holds no JSON object"),
    ],
)
def test_folders_that_are_no_models(tmp_path, files, says):
    for write in files:
        write(tmp_path)
    with pytest.raises(ConfigError, match=says):
        start_engine(str(tmp_path))


def test_files_that_are_no_models(tmp_path):
    gguf(tmp_path)
    for path in (tmp_path / "model-q4.gguf", "some/model-q4.gguf"):
        with pytest.raises(ConfigError, match="in the format GGUF"):
            check_model(str(path))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match="is a file: give the folder"):
        check_model(str(tmp_path / "model.safetensors"))
    for missing in (tmp_path / "none", "./none"):
        with pytest.raises(ConfigError, match="there is no model at"):
            check_model(str(missing))
    config(tmp_path)
    check_model(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    check_model(str(tmp_path), load_format="dummy")
    check_model("org/not-here")


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (AssertionError(), r"AssertionError \(in test_whatever.*Its files"),
        (KeyError("layers.0"), "KeyError: 'layers.0'. Its files"),
        (RuntimeError("Engine core initialization failed. See root cause above."), "own process"),
        (OSError("no such id"), "no such id. Check the model's name"),
        (ValueError("12 GiB KV cache is needed"), "is needed. Give a smaller max_model_len"),
        (
            RuntimeError("_C::static_scaled_fp8_quant() expected at most 0"),
            "lacks a kernel that the",
        ),
        (ValueError("x" * 2000), "xxx .... Check the model's name"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_vllm_raises_says_what_to_do(tmp_path, failure, says):
    config(tmp_path)
    with (
        pytest.raises(ConfigError, match=says) as refused,
        convert_start_errors(str(tmp_path), {"load_format": "dummy"}),
    ):
        raise failure
    assert refused.value.__cause__ is failure
    assert str(refused.value).startswith(f"vLLM cannot start {tmp_path}: ")
    ours = ConfigError("said already")
    with pytest.raises(ConfigError) as kept, convert_start_errors("org/not-here", {}):
        raise ours
    assert kept.value is ours


def test_files_and_arguments_that_do_not_fit_together(tmp_path):
    """By the real loader: a tensor too many, a wrong shape, arguments that pydantic refuses."""
    whole = save_model(tmp_path / "whole")
    broken = {
        "many": lambda weights: {**weights, "model.foo": weights["model.norm.weight"].clone()},
        "shape": lambda weights: {
            name: tensor[:3].clone() if "up_proj" in name else tensor
            for name, tensor in weights.items()
        },
    }
    for name, change in broken.items():
        folder = save_model(tmp_path / name)
        weights = change(load_file(f"{folder}/model.safetensors"))
        save_file(weights, f"{folder}/model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ConfigError, match=f"vLLM cannot start {folder}: "):
            start_engine(folder, kv_cache_memory_bytes=32 << 20)
    for wrong, says in {
        "max_lora_rank": r"max_lora_rank: Input should be 1, 8",
        "max_model_len": r"max_model_len='7'\): give a whole number",
        "nonsense": "unexpected keyword argument 'nonsense'",
    }.items():
        with pytest.raises(ConfigError, match=says) as refused:
            start_engine(whole, enable_lora=True, **{wrong: "7"})
        assert "pydantic" not in str(refused.value)
    # zeros would fill it: the system would kill this process without a word
    with pytest.raises(ConfigError, match=r"needs 1048576.0 GiB for its KV cache .* is free: "):
        start_engine(whole, kv_cache_memory_bytes=1 << 50)


def test_the_context_is_what_a_step_and_the_cache_hold(tmp_path, caplog):
    """On a CPU; a longer one that the caller asks for is refused with what would be needed."""
    long = save_model(tmp_path / "long", max_position_embeddings=1 << 17)
    for sizes, length in (({}, 4096), ({"max_num_batched_tokens": 512}, 512)):
        engine = start_engine(long, kv_cache_memory_bytes=4 << 20, **sizes)
        try:
            assert 0.9 * length < engine.max_model_len <= length
        finally:
            engine.close()
        assert f"of {engine.max_model_len} tokens here, and of 131072 by itself" in caplog.text
    for wrong, says in (
        ({"max_model_len": 5000, "kv_cache_memory_bytes": 4 << 20}, "more kv_cache_memory_bytes"),
        ({"max_model_len": 1024, "max_num_batched_tokens": 512}, "needs steps of as many tokens"),
    ):
        with pytest.raises(ConfigError, match=says):
            start_engine(long, **wrong)
    assert engine_arguments("org/a", {"max_num_seqs": 30000}, pooling=False)[
        "max_num_batched_tokens"
    ] == 30000  # fmt: skip


def test_quantized_weights_are_not_asked_to_be_float32(tmp_path):
    assert engine_arguments(str(tmp_path), {}, pooling=False)["dtype"] == "float32"
    assert engine_arguments("org/a", {"quantization": "awq"}, pooling=False)["dtype"] == "auto"
    config(tmp_path, json.dumps({"quantization_config": {"quant_method": "awq"}}))
    assert engine_arguments(str(tmp_path), {}, pooling=False)["dtype"] == "auto"
    given = engine_arguments(str(tmp_path), {"dtype": "half"}, pooling=False)
    assert given["dtype"] == "half"
