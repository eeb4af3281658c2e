"""Small reward models in the layouts that people publish, with the embedded tokenizer."""

import json
import shutil
from pathlib import Path

import torch
import transformers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rsalign.embedded import REWARD

transformers.logging.disable_progress_bar()
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
GROUPED = {**SIZES, "num_key_value_heads": 1}


def tokenizer():
    return AutoTokenizer.from_pretrained(REWARD)


def write_config(folder, **settings):
    """Changes settings; None removes one."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def write(folder, family, *, head="ForSequenceClassification", num_labels=1, **settings):
    """A model of transformers with a chat template; returns it."""
    written = tokenizer()
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(written), num_labels=num_labels, pad_token_id=0, **settings
    )
    with torch.random.fork_rng():
        torch.manual_seed(len(family))
        model = getattr(transformers, f"{family}{head}")(config).to(torch.float32).eval()
    model.save_pretrained(folder)
    written.save_pretrained(folder)
    return model


def write_encoder(folder, family, *, template=False, types=1, **settings):
    """An encoder that reads pairs of texts, ``[CLS] one [SEP] other [SEP]``, or conversations."""
    bare = tokenizer()
    names = {"cls_token": "<|reserved_0|>", "sep_token": "<|reserved_1|>", "pad_token": "<pad>"}
    cls, sep = ((name, bare.convert_tokens_to_ids(name)) for name in list(names.values())[:2])
    backend = bare.backend_tokenizer
    backend.post_processor = TemplateProcessing(
        single=f"{cls[0]} $A {sep[0]}",
        pair=f"{cls[0]} $A {sep[0]} $B:{types - 1} {sep[0]}:{types - 1}",
        special_tokens=[cls, sep],
    )
    model = write(folder, family, type_vocab_size=types, **SIZES, **settings)
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    pairs = PreTrainedTokenizerFast(
        tokenizer_object=backend, model_input_names=inputs, model_max_length=512, **names
    )
    if template:
        pairs.chat_template = bare.chat_template
    else:
        (folder / "chat_template.jinja").unlink(missing_ok=True)
    pairs.save_pretrained(folder)
    return model


ARMO = """
from dataclasses import dataclass
import torch
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.utils import ModelOutput

@dataclass
class CustomOutput(ModelOutput):
    rewards: torch.FloatTensor = None
    gating_output: torch.FloatTensor = None
    score: torch.FloatTensor = None
    logits: torch.FloatTensor = None

class LlamaForRewardModelWithGating(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.gating = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **others):
        hidden = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        if self.config.pad_token_id is None:
            lengths = -1
        else:
            lengths = torch.eq(input_ids, self.config.pad_token_id).int().argmax(-1) - 1
            lengths = lengths % input_ids.shape[-1]
        rows = torch.arange(len(input_ids))
        rewards = self.regression_layer(hidden[rows, lengths])
        gating = torch.softmax(self.gating(hidden[rows, 2]), -1)
        score = (rewards * gating).sum(-1)
        return CustomOutput(rewards=rewards, gating_output=gating, score=score, logits=score)
"""
VALUE_HEAD = """
import torch
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast

class LlamaForRewardModel(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.v_head = nn.Linear(config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **others):
        values = self.v_head(self.model(input_ids, attention_mask=attention_mask)[0])
        ends = attention_mask.cumsum(dim=1).argmax(dim=1).view(-1, 1)
        return SequenceClassifierOutputWithPast(logits=torch.gather(values.squeeze(-1), 1, ends))
"""


def write_own_code(folder, source, name, *, auto, num_labels, **settings):
    """A model whose class is code in its folder; its weights are random. Returns the model."""
    written = tokenizer()
    config = transformers.LlamaConfig(
        vocab_size=len(written), num_labels=num_labels, pad_token_id=0, **GROUPED
    )
    config.save_pretrained(folder)
    written.save_pretrained(folder)
    (folder / "modeling_own.py").write_text(source)
    write_config(folder, architectures=[name], auto_map={auto: f"modeling_own.{name}"}, **settings)
    auto_class = getattr(transformers, auto)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = transformers.AutoConfig.from_pretrained(folder)
        model = auto_class.from_config(config, trust_remote_code=True).float().eval()
    state = model.state_dict()
    from safetensors.torch import save_file

    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return model


def as_hub_id(folder, home, name):
    """Lays a folder into an empty cache of the Hub; returns the id."""
    repository = Path(home) / "hub" / f"models--org--{name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("a" * 40)
    shutil.copytree(folder, repository / "snapshots" / ("a" * 40))
    return f"org/{name}"
