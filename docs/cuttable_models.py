"""Write the table of models that can be cut, and how many ways: docs/reference/models.md.

    python -m docs.cuttable_models

Each model has random weights. It is cut on a batch of two, and its stages are held against it: the outputs in
training and in evaluation, and all its weights after a step. Hugging Face's models need `transformers`.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import nn

from comdml_flwr.learning.models.cutting import find_cutting
from comdml_flwr.learning.structure import Nested
from tests.odd_modules import HARD

PAGE = Path(__file__).resolve().parent / "reference" / "models.md"
TORCHVISION = {
    "alexnet": 64,
    "vgg11_bn": 32,
    "resnet18": 64,
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "densenet121": 64,
    "googlenet": 64,
    "inception_v3": 299,
    "squeezenet1_1": 64,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "shufflenet_v2_x0_5": 64,
    "mnasnet0_5": 64,
    "efficientnet_b0": 64,
    "regnet_y_400mf": 64,
    "convnext_tiny": 64,
    "swin_t": 64,
    "vit_b_16": 32,
    "segmentation.fcn_resnet50": 64,
}
"""Name -> pixels of a side, small enough for the command to take a few minutes."""
_HEAD = """# Models that can be cut

<!-- Written by `python -m docs.cuttable_models`. -->

Where a model may be cut is found on a batch of two samples ([Your model](../guides/your_model.md)). *Found*
are the legal cuts, *kept* those that a planner chooses from. The difference is the largest one between the
model and its stages: of the outputs in training and in evaluation, and of each weight and running statistic
after a step, relative to the largest number of the tensor. Weights are random; images have {sides} pixels a
side.

| model | cuts found | kept | largest difference, or why it is not cut |
| --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model of the table: how it is built, and a batch."""

    name: str
    build: Callable[[], nn.Module]
    batch: Callable[[], Nested]


def cases() -> Iterator[Case]:
    """Yield all models of the table."""
    for name, side in TORCHVISION.items():
        yield Case(
            name=f"torchvision `{name}`",
            build=lambda name=name: _torchvision(name),
            batch=lambda side=side: torch.randn(2, 3, side, side),
        )
    yield from hugging_face()
    for name, (build, batch) in HARD.items():
        yield Case(name=f"by hand: {name}", build=build, batch=batch)


def _torchvision(name: str) -> nn.Module:
    if name == "vit_b_16":  # its class fixes the size of an image
        model: nn.Module = torchvision.models.VisionTransformer(32, 8, 4, 2, 64, 128, num_classes=10)
        return model
    keys = {"weights_backbone": None} if "." in name else {}
    if name in ("googlenet", "inception_v3"):
        keys = {"init_weights": False}
    built: nn.Module = torchvision.models.get_model(name.rpartition(".")[2], num_classes=10, **keys)
    return built


def hugging_face() -> Iterator[Case]:
    """Yield small models of Hugging Face's classes; none where `transformers` is not installed."""
    try:
        import transformers
    except ImportError:
        return
    size = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 64}
    bert = transformers.BertConfig(vocab_size=100, max_position_embeddings=32, num_labels=5, **size)
    llama = transformers.LlamaConfig(vocab_size=100, use_cache=False, **size)
    vit = transformers.ViTConfig(image_size=16, patch_size=4, num_labels=5, **size)
    gpt = {"vocab_size": 100, "n_embd": 32, "n_layer": 4, "n_head": 2, "n_positions": 32, "use_cache": False}
    gpt |= {"bos_token_id": 0, "eos_token_id": 0}

    def tokens() -> Nested:
        return {"input_ids": torch.randint(100, (2, 12))}

    yield Case(
        name="Hugging Face encoder, `BertForSequenceClassification`",
        build=lambda: transformers.BertForSequenceClassification(bert),
        batch=tokens,
    )
    yield Case(
        name="... with a mask of the tokens, which each layer uses",
        build=lambda: transformers.BertForSequenceClassification(bert),
        batch=lambda: {
            "input_ids": torch.randint(100, (2, 12)),
            "attention_mask": (torch.arange(12) < torch.tensor([[12], [7]])).long(),
        },
    )
    for tied in (False, True):
        config = transformers.GPT2Config(**gpt, tie_word_embeddings=tied)
        yield Case(
            name=f"Hugging Face decoder, `GPT2LMHeadModel`{', tied embeddings' if tied else ''}",
            build=lambda config=config: transformers.GPT2LMHeadModel(config),
            batch=tokens,
        )
    yield Case(
        name="Hugging Face decoder, `LlamaForCausalLM`",
        build=lambda: transformers.LlamaForCausalLM(llama),
        batch=tokens,
    )
    yield Case(
        name="Hugging Face vision transformer, `ViTForImageClassification`",
        build=lambda: transformers.ViTForImageClassification(vit),
        batch=lambda: {"pixel_values": torch.randn(2, 3, 16, 16)},
    )


def row(case: Case) -> str:
    """Return a model's line of the table."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        cutting = find_cutting(case.build(), case.batch())
    num_kept = max(0, len(cutting.parts) - 1)
    told = cutting.reason.replace("|", "/") or (f"{cutting.difference:.1e}" if cutting.difference else "0")
    return f"| {case.name} | {cutting.num_found} | {num_kept} | {told} |"


def main() -> None:
    """Write the page, and print each line as it is found."""
    torch.set_num_threads(1)
    rows = []
    for case in cases():
        rows.append(row(case))
        print(rows[-1], flush=True)
    sides = f"{min(TORCHVISION.values())} to {max(TORCHVISION.values())}"
    PAGE.write_text(_HEAD.format(sides=sides) + "\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
