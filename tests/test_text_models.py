"""What is special about the nets for texts and mixed tables; what all models share is in contracts/test_models.py."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.batches import Batch
from fathom.errors import UserError
from fathom.loop import train
from fathom.models import fused, lstm, transformer
from fathom.models.parts.attention import SelfAttention, rotate, rotation
from fathom.models.parts.pooling import masked_max, masked_mean
from fathom.models.parts.tokens import TokenEmbedding
from fathom.objectives.classify import Classify

TEXT = {"form": "tokens", "vocabulary": 12, "length": 8}
NUMBERS = {"form": "numbers", "names": ["x"], "mean": [0.0], "std": [1.0], "quantiles": [[-1.0, 0.0, 1.0]]}
CATEGORIES = {"form": "categories", "names": ["c"], "sizes": [3]}
CLS, FIRST, SECOND = 2, 3, 4  # 0 is padding, 1 the unknown token


def trained(model: nn.Module, batch: Batch, steps: int = 80) -> nn.Module:
    """So many steps at most, fewer where the batch is known by heart."""
    for step in train(model.train(), Classify(2), [batch] * steps, torch.optim.Adam(model.parameters(), lr=1e-2)):
        if float(step.loss) < 0.02:
            break
    return model.eval()


def share_right(model: nn.Module, batch: Batch) -> float:
    with torch.no_grad():
        raw = model(batch.inputs)
    raw = raw.mean(dim=1) if raw.dim() == 3 else raw
    return float((raw.argmax(dim=1) == batch.targets).float().mean())


def ordered_texts(rows: int, seed: int) -> Batch:
    """Texts that hold the same two tokens among others; the class is which of them comes first."""
    random = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, 12, (rows, 8), generator=random)
    tokens[:, 0] = CLS
    places = torch.stack([1 + torch.randperm(7, generator=random)[:2].sort().values for _ in range(rows)])
    labels = torch.randint(0, 2, (rows,), generator=random)
    row = torch.arange(rows)
    tokens[row, places[:, 0]] = torch.where(labels == 0, FIRST, SECOND)
    tokens[row, places[:, 1]] = torch.where(labels == 0, SECOND, FIRST)
    return Batch(tokens, labels)


@pytest.mark.parametrize(("module", "options"), [(transformer, {}), (lstm, {"cell": "lstm"}), (lstm, {"cell": "gru"})])
def test_order_of_words_is_learned(module: ModuleType, options: dict[str, Any]) -> None:
    """No bag of words can do this."""
    torch.manual_seed(0)
    model = module.build({"t": TEXT}, 2, width=32, dropout=0.0, drop_tokens=0.0, **options)
    trained(model, ordered_texts(256, seed=0), steps=120)
    assert share_right(model, ordered_texts(200, seed=1)) > 0.9


@pytest.mark.parametrize("module", [transformer, lstm])
def test_empty_text_is_an_answer_of_its_own(module: ModuleType) -> None:
    """Rows without any text are told from rows with one, whatever the batch is padded to."""
    torch.manual_seed(0)
    tokens = torch.zeros(6, 5, dtype=torch.long)
    tokens[3:, 0], tokens[3:, 1:3] = CLS, torch.randint(5, 12, (3, 2))
    batch = Batch(tokens, torch.tensor([1, 1, 1, 0, 0, 0]))
    model = trained(module.build({"t": TEXT}, 2, width=16, dropout=0.0), batch)
    assert share_right(model, batch) == 1
    with torch.no_grad():
        torch.testing.assert_close(model(tokens[:1, :1]), model(tokens[:1]))


def test_dropped_tokens_are_zeroed_in_training_only_and_never_the_first() -> None:
    torch.manual_seed(0)
    embed = TokenEmbedding(12, 4, drop_tokens=0.5)
    tokens = torch.full((100, 6), 7)
    dropped = (embed(tokens)[0] == 0).all(dim=-1)
    assert not dropped[:, 0].any()
    assert 0.4 < float(dropped[:, 1:].float().mean()) < 0.6
    assert not (embed.eval()(tokens)[0] == 0).any()


def test_both_ways_equals_a_packed_bidirectional_lstm() -> None:
    torch.manual_seed(0)
    mine, lengths = lstm.BothWays(nn.LSTM, 6, 5), torch.tensor([7, 1, 4])
    theirs = nn.LSTM(6, 5, batch_first=True, bidirectional=True)
    for (name, parameter), other in zip(mine.forwards.named_parameters(), mine.backwards.parameters(), strict=True):
        getattr(theirs, name).data.copy_(parameter)
        getattr(theirs, name + "_reverse").data.copy_(other)
    x, inside = torch.randn(3, 7, 6), torch.arange(7) < lengths[:, None]
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], batch_first=True)
    torch.testing.assert_close(mine(x, inside) * inside.unsqueeze(-1), expected)


def test_attention_equals_its_formula() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttention(8, 2), torch.randn(2, 5, 8)
    inside = torch.arange(5) < torch.tensor([[5], [3]])
    query, key, value = layer.project_in(x).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    turn = rotation(5, 4, x.device)
    scores = rotate(query, *turn) @ rotate(key, *turn).transpose(-1, -2) / 4**0.5
    weights = torch.softmax(scores.masked_fill(~inside[:, None, None], float("-inf")), dim=-1)
    expected = layer.project_out((weights @ value).transpose(1, 2).reshape(2, 5, 8))
    torch.testing.assert_close(layer(x, inside), expected)


def test_rotated_scores_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    query, key = (torch.randn(8).expand(1, 1, 10, 8) for _ in range(2))
    turn = rotation(10, 8, torch.device("cpu"))
    scores = (rotate(query, *turn) @ rotate(key, *turn).transpose(-1, -2))[0, 0]
    torch.testing.assert_close(scores[:-1, :-1], scores[1:, 1:])
    assert not torch.allclose(scores[0, 1], scores[0, 2])


def test_pooling_counts_real_positions_only() -> None:
    x = torch.tensor([[[1.0, -5.0], [3.0, -1.0], [100.0, 100.0]]])
    inside = torch.tensor([[True, True, False]])
    torch.testing.assert_close(masked_mean(x, inside), torch.tensor([[2.0, -3.0]]))
    torch.testing.assert_close(masked_max(x, inside), torch.tensor([[3.0, -1.0]]))


def mixed(rows: int, seed: int) -> Batch:
    """The class is whether the number is positive, turned over where the text says token FIRST."""
    random = torch.Generator().manual_seed(seed)
    numbers = torch.randn(rows, 1, generator=random)
    tokens = torch.randint(5, 12, (rows, 5), generator=random)
    tokens[:, 0] = CLS
    turned = torch.randint(0, 2, (rows,), generator=random)
    tokens[turned == 1, 3] = FIRST
    categories = torch.randint(0, 3, (rows, 1), generator=random)
    targets = (numbers[:, 0] > 0).long() ^ turned
    return Batch({"numbers": numbers, "categories": categories, "the text": tokens}, targets)


@pytest.mark.parametrize("text", ["transformer", "lstm"])
def test_fused_joins_text_and_number(text: str) -> None:
    """Neither the text nor the number alone tells anything of the class."""
    torch.manual_seed(0)
    inputs = {"numbers": NUMBERS, "categories": CATEGORIES, "the text": TEXT}
    model = fused.build(inputs, 2, width=16, members=4, dropout=0.0, text=text)
    trained(model, mixed(256, seed=0), steps=200)
    assert share_right(model, mixed(200, seed=1)) > 0.9


def test_fused_has_members_only_where_there_is_a_table() -> None:
    texts: dict[str, Tensor] = {"a": torch.full((2, 3), 5), "b": torch.full((2, 4), 6)}
    assert fused.build({"a": TEXT, "b": TEXT}, 3)(texts).shape == (2, 3)
    with_numbers = fused.build({"numbers": NUMBERS, "a": TEXT}, 3, members=5)
    assert with_numbers({"numbers": torch.zeros(2, 1), "a": texts["a"]}).shape == (2, 5, 3)


def test_fused_tells_texts_from_a_table_by_their_form() -> None:
    """Names are the columns' own: nobody is kept from calling a text "numbers"."""
    model = fused.build({"numbers": TEXT, "categories": CATEGORIES}, 3, members=5)
    given = {"numbers": torch.full((2, 3), 5), "categories": torch.ones(2, 1, dtype=torch.long)}
    assert model(given).shape == (2, 5, 3)
    assert fused.build({"numbers": TEXT, "b": TEXT}, 3)({"numbers": given["numbers"], "b": given["numbers"]}).dim() == 2


def test_fused_says_what_it_is_made_for() -> None:
    pixels = {"form": "pixels", "height": 8, "width": 8}
    assert fused.claims({"numbers": NUMBERS, "a": TEXT, "b": TEXT, "p": pixels}) == "numbers, 2 texts and 1 picture"
    assert fused.claims({"a": TEXT, "b": TEXT}) == "2 texts"
    assert fused.claims({"numbers": NUMBERS, "categories": CATEGORIES}) is None
    assert fused.claims({"a": TEXT}) is None
    assert fused.claims({"a": TEXT, "p": pixels | {"height": 3}}) is None, "what it claims it must take"


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (transformer, {"width": 0}, "model.width=0"),
        (transformer, {"dropout": 1.0}, "model.dropout=1.0"),
        (lstm, {"cell": "gro"}, "Did you mean 'gru'"),
        (lstm, {"drop_tokens": -0.1}, "model.drop_tokens=-0.1"),
    ],
)
def test_options_out_of_range_are_refused(module: ModuleType, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module.build({"t": TEXT}, 2, **options)


def test_fused_refuses_a_net_that_reads_no_texts() -> None:
    with pytest.raises(UserError, match="Did you mean 'transformer'"):
        fused.build({"numbers": NUMBERS, "a": TEXT}, 2, text="transfomer")


@pytest.mark.parametrize("width", [1, 48, 50, 100])
def test_any_width_makes_a_transformer(width: int) -> None:
    raw = transformer.build({"t": TEXT}, 2, width=width)(torch.randint(2, 12, (3, 6)))
    assert F.softmax(raw, dim=1).shape == (3, 2)
