"""Networks of the zoo that take other inputs than one tensor of images, and the data for them.

Each takes its samples one way in a task, padded or as a tuple, and its plain loop takes each sample
alone, as it is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tda_utils import Objective, Task

WORDS, WIDTH = 7, 4
N_TRAIN, N_TEST = 6, 3


class Items(Dataset):
    """A list of samples as a data set."""

    def __init__(self, items: list[Any]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Any:
        return self.items[position]


def generator_of(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---------------- sentences of different length


def sentences() -> list[Tensor]:
    """Return tokens of sentences, none of them 0, which pads."""
    generator = generator_of()
    lengths = [3, 5, 2, 4, 5, 1, 3, 4, 2]
    return [torch.randint(1, WORDS, (n,), generator=generator) for n in lengths]


def padded(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Make a batch of sentences: pad them to the longest and say where they end."""
    ids = [item["input_ids"] for item in items]
    batch = nn.utils.rnn.pad_sequence(ids, batch_first=True)
    return {
        "input_ids": batch,
        "attention_mask": (batch != 0).long(),
        "labels": torch.stack([item["labels"] for item in items]),
    }


def sentence_task(targets: Tensor, objective: Objective) -> Task:
    items = [{"input_ids": ids, "labels": y} for ids, y in zip(sentences(), targets, strict=True)]
    train, test = Items(items[:N_TRAIN]), Items(items[N_TRAIN:])
    return Task.from_datasets(train, test, objective=objective, collate=padded)


def sentence_alone(model: nn.Module, position: int) -> Any:
    ids = sentences()[position][None]
    return model(input_ids=ids, attention_mask=torch.ones_like(ids))


class Words(nn.Module):
    """The state of an LSTM at the end of a sentence."""

    def __init__(self, outputs: int):
        super().__init__()
        self.embed = nn.Embedding(WORDS, 2, padding_idx=0)
        self.cell, self.head = nn.LSTM(2, 3, batch_first=True), nn.Linear(3, outputs)

    def forward(self, input_ids, attention_mask):
        states = self.cell(self.embed(input_ids))[0]
        last = (attention_mask.sum(1) - 1)[:, None, None].expand(-1, 1, states.shape[2])
        return self.head(states.gather(1, last)[:, 0])


class Attention(nn.Module):
    """A layer of a transformer, then the mean over the words that there are."""

    def __init__(self, outputs: int):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 5, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, outputs)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask == 0
        states = self.layers(self.embed(input_ids), src_key_padding_mask=mask)
        kept = states.masked_fill(mask[:, :, None], 0)
        return self.head(kept.sum(1) / attention_mask.sum(1, keepdim=True))


def bert(outputs: int, dropout: float = 0.0) -> nn.Module:
    """A BERT of its configuration alone, which gives an object with logits."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=WIDTH,
        max_position_embeddings=6,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=dropout,
        num_labels=outputs,
    )
    return BertForSequenceClassification(config)


# ---------------- a table beside words


def pairs() -> tuple[Tensor, Tensor]:
    generator = generator_of()
    n = N_TRAIN + N_TEST
    rows = torch.randn(n, 3, generator=generator)
    return rows, torch.randint(0, WORDS, (n, 2), generator=generator)


class TwoInputs(nn.Module):
    """An MLP of two inputs, one of them whole numbers."""

    def __init__(self, outputs: int):
        super().__init__()
        self.embed, self.mix = nn.Embedding(WORDS, 2), nn.Linear(3, 4)
        self.join, self.head = nn.Linear(4, 4), nn.Linear(4, outputs)

    def forward(self, rows, words):
        both = self.mix(rows) + self.join(self.embed(words).flatten(1))
        return self.head(torch.tanh(both))


def pair_task(targets: Tensor, objective: Objective) -> Task:
    train, test = (
        [part[own] for part in pairs()] for own in (slice(N_TRAIN), slice(N_TRAIN, None))
    )
    return Task.from_arrays(
        tuple(train), targets[:N_TRAIN], tuple(test), targets[N_TRAIN:], objective=objective
    )


def pair_alone(model: nn.Module, position: int) -> Any:
    rows, words = pairs()
    kind = next(model.parameters()).dtype
    return model(rows[position][None].to(kind), words[position][None])


# ---------------- graphs of different size


def graphs() -> list[tuple[Tensor, Tensor]]:
    """Return nodes, (nodes, 2), and edges, (nodes, nodes), of graphs."""
    generator = generator_of()
    made = []
    for n in (2, 4, 3, 5, 3, 2, 4, 3, 2):
        links = (torch.rand(n, n, generator=generator) > 0.5).float()
        edges = ((links + links.T + torch.eye(n)) > 0).float()
        made.append((torch.randn(n, 2, generator=generator), edges))
    return made


class GraphNetwork(nn.Module):
    """Messages along the edges, twice, then the mean over the nodes that there are."""

    def __init__(self, outputs: int):
        super().__init__()
        self.first, self.second = nn.Linear(2, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, outputs)

    def forward(self, nodes, edges):
        degree = edges.sum(2, keepdim=True)
        there = (degree > 0).to(nodes.dtype)
        mean = edges / degree.clamp_min(1)
        hidden = torch.tanh(self.first(mean @ nodes))
        hidden = torch.tanh(self.second(mean @ hidden)) * there
        return self.head(hidden.sum(1) / there.sum(1))


def gathered(items: list[tuple[tuple[Tensor, Tensor], Tensor]]) -> tuple[Any, Tensor]:
    """Make a batch of graphs: nodes without edges fill them up."""
    most = max(len(nodes) for (nodes, _), _ in items)

    def filled(values: Tensor, *sizes: int) -> Tensor:
        whole = values.new_zeros(*sizes)
        whole[: values.shape[0], : values.shape[1]] = values
        return whole

    nodes = torch.stack([filled(own, most, 2) for (own, _), _ in items])
    edges = torch.stack([filled(own, most, most) for (_, own), _ in items])
    return (nodes, edges), torch.stack([target for _, target in items])


def graph_task(targets: Tensor, objective: Objective) -> Task:
    items = list(zip(graphs(), targets, strict=True))
    train, test = Items(items[:N_TRAIN]), Items(items[N_TRAIN:])
    return Task.from_datasets(train, test, objective=objective, collate=gathered)


def graph_alone(model: nn.Module, position: int) -> Any:
    kind = next(model.parameters()).dtype
    return model(*(part[None].to(kind) for part in graphs()[position]))


class Kind(NamedTuple):
    """A network with its inputs."""

    build: Callable[[int], nn.Module]
    task: Callable[[Tensor, Objective], Task]
    alone: Callable[[nn.Module, int], Any]  # the outputs of one sample alone
    inputs: str  # what it takes, for the table of the docs
    by_layer: bool = False


INPUTS: dict[str, Kind] = {
    "MLP of two inputs": Kind(
        TwoInputs, pair_task, pair_alone, "a tuple: floats and whole numbers"
    ),
    "LSTM": Kind(Words, sentence_task, sentence_alone, "a dict: tokens of any length, a mask"),
    "transformer encoder": Kind(
        Attention, sentence_task, sentence_alone, "a dict: tokens of any length, a mask"
    ),
    "BERT (Transformers)": Kind(
        bert, sentence_task, sentence_alone, "a dict: tokens of any length, a mask"
    ),
    "graph network": Kind(
        GraphNetwork, graph_task, graph_alone, "a tuple: nodes and edges of any number", True
    ),
}


def plain_logits(outputs: Any) -> Tensor:
    return outputs if isinstance(outputs, Tensor) else outputs.logits
