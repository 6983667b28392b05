"""The doctor beside the trainers of other libraries: what it finds beside a loop it finds there, and nothing else."""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from fathom.doctor.finding import Finding
from fathom.errors import UserError

LIBRARIES = ["lightning", "transformers"]
ROWS, FEATURES, CLASSES, BATCH, WARMUP = 256, 6, 3, 16, 10


class Rows(Dataset[dict[str, Tensor]]):
    def __init__(self) -> None:
        self.x = torch.randn(ROWS, FEATURES, generator=torch.Generator().manual_seed(0))
        self.labels = self.x[:, :CLASSES].argmax(dim=1)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        return {"x": self.x[row], "labels": self.labels[row]}


class Edge(nn.Module):
    """Asks for the logarithm of a number below zero where one of the inputs is large."""

    def forward(self, h: Tensor) -> Tensor:
        return (h + 50).log() if float(h.detach().abs().max()) > 50 else h


class Net(nn.Module):
    def __init__(self, *last: nn.Module, detaches: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
        self.early, self.ask = nn.Linear(FEATURES, FEATURES), Edge()
        self.head, self.detaches = nn.Sequential(nn.Linear(16, CLASSES), *last), detaches

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        h = self.ask(self.early(x))
        outputs = self.head(self.body(h.detach() if self.detaches else h))
        return {"loss": F.cross_entropy(outputs, labels), "logits": outputs}


def fit(
    library: str, net: Net, folder: Path, rows: Rows, callbacks: list[Any], *, accumulate: int = 1, bf16: bool = False
) -> None:
    torch.manual_seed(1)
    run = with_lightning if library == "lightning" else with_transformers
    run(net, folder, rows, callbacks, accumulate, bf16)


def callback(library: str, **meant: Any) -> Any:
    pytest.importorskip(library)
    if library == "transformers":
        pytest.importorskip("accelerate")
    return importlib.import_module(f"fathom.adapt.{library}").WatchCallback(**{"say": None} | meant)


def with_lightning(
    net: Net, folder: Path, rows: Rows, callbacks: list[Any], accumulate: int, bf16: bool, library: Any = None
) -> None:
    import lightning.pytorch

    library = library or lightning.pytorch

    class Module(library.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: dict[str, Tensor], place: int) -> Tensor:
            return self.net(**batch)["loss"]

        def validation_step(self, batch: dict[str, Tensor], place: int) -> None:
            self.log("val_loss", self.net(**batch)["loss"])

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], lr=1e-2)
            schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 0.01, total_iters=WARMUP)
            return [optimizer], [{"scheduler": schedule, "interval": "step"}]

    logging.getLogger(library.__name__).setLevel(logging.ERROR)
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    trainer = library.Trainer(
        accelerator="cpu",
        precision="bf16-mixed" if bf16 else "32-true",
        max_epochs=2,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=1.0,
        val_check_interval=8,
        callbacks=callbacks,
        default_root_dir=folder,
        **dict.fromkeys(quiet, False),
    )
    trainer.fit(Module(), DataLoader(rows, BATCH), DataLoader(rows, BATCH))


def with_transformers(net: Net, folder: Path, rows: Rows, callbacks: list[Any], accumulate: int, bf16: bool) -> None:
    import transformers

    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        bf16=bf16,
        num_train_epochs=2,
        per_device_train_batch_size=BATCH,
        gradient_accumulation_steps=accumulate,
        train_sampling_strategy="sequential",
        learning_rate=1e-2,
        warmup_steps=WARMUP,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
    )
    transformers.Trainer(net, arguments, train_dataset=rows, eval_dataset=rows, callbacks=callbacks).train()


def found(library: str, net: Net, folder: Path, rows: Rows | None = None, **meant: Any) -> list[Finding]:
    doctor = callback(library, **meant)
    fit(library, net, folder, rows or Rows(), [doctor])
    return doctor.report()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("accumulate", "bf16"), [(1, False), (2, True)])
def test_a_healthy_training_raises_nothing(library: str, accumulate: int, bf16: bool, tmp_path: Path) -> None:
    """With a warm-up, evaluations between steps, batch norm, dropout, and clipped gradients."""
    doctor = callback(library)
    fit(library, Net(), tmp_path, Rows(), [doctor], accumulate=accumulate, bf16=bf16)
    assert doctor.report(tmp_path / "mine.json") == []
    assert json.loads((tmp_path / "findings.json").read_text()) == json.loads((tmp_path / "mine.json").read_text())
    assert doctor._watched.doctor.step == 2 * ROWS // BATCH // accumulate


@pytest.mark.parametrize("library", LIBRARIES)
def test_faults_are_found_with_their_step(library: str, tmp_path: Path) -> None:
    said: list[str] = []
    (twice,) = found(library, Net(nn.Softmax(dim=1)), tmp_path, say=said.append)
    assert (twice.id, twice.step) == ("F1", 1) and "softmax of it again" in twice.seen
    assert len(said) == 1 and said[0].startswith("F1 ")
    assert [one["id"] for one in json.loads((tmp_path / "findings.json").read_text())] == ["F1"]
    (forgotten,) = found(library, Net(detaches=True), tmp_path)
    assert forgotten.id == "F4" and forgotten.step == 6
    assert [name.removeprefix("net.") for name in forgotten.evidence["parameters"]] == ["early.weight", "early.bias"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_step_that_would_ruin_the_weights_is_stopped(library: str, tmp_path: Path) -> None:
    original, net, rows = torch.autograd.backward, Net(), Rows()
    rows.x[4 * BATCH + 3] = -1e4
    doctor = callback(library)
    # Hugging Face's Trainer does not tell of an error, so a `with` block has to.
    ends = doctor if library == "transformers" else contextlib.nullcontext()
    with pytest.raises(FloatingPointError, match="Step 5 would ruin"), ends:
        fit(library, net, tmp_path, rows, [doctor])
    (root,) = (one for one in doctor.report() if one.id == "T1")
    assert root.step == 5 and root.evidence["module"].removeprefix("net.") == "ask"
    assert root.evidence["operation"] == "log" and root.evidence["rows"] == [3]
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters()), "the weights are those of the step before"
    assert torch.autograd.backward is original, "the watch has ended"
    assert "T1" in [one["id"] for one in json.loads((tmp_path / "findings.json").read_text())]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_watched_training_is_the_same_to_the_last_bit(library: str, tmp_path: Path) -> None:
    plain, watched = Net(), Net()
    doctor = callback(library)
    fit(library, plain, tmp_path, Rows(), [], accumulate=2)
    after = torch.get_rng_state()
    fit(library, watched, tmp_path, Rows(), [doctor], accumulate=2)
    assert torch.equal(after, torch.get_rng_state())
    for (name, a), b in zip(plain.state_dict().items(), watched.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert not torch.equal(plain.head[0].weight, Net().head[0].weight)


@pytest.mark.parametrize("library", LIBRARIES)
def test_frozen_parameters_are_told_unless_they_are_meant(library: str, tmp_path: Path) -> None:
    net = Net()
    net.early.requires_grad_(False)
    (frozen,) = found(library, net, tmp_path)
    assert frozen.id == "F4" and "requires_grad=False" in frozen.seen
    assert found(library, net, tmp_path, frozen=["*early.*"]) == []


def test_what_a_trainers_own_means_have_frozen_is_meant(tmp_path: Path) -> None:
    doctor = callback("lightning")
    from lightning.pytorch.callbacks import BaseFinetuning

    class Freeze(BaseFinetuning):
        def freeze_before_training(self, module: Any) -> None:
            self.freeze(module.net.early)

        def finetune_function(self, module: Any, epoch: int, optimizer: Any) -> None:
            """Never unfrozen."""

    fit("lightning", Net(), tmp_path, Rows(), [Freeze(), doctor])
    assert doctor.report() == []
    callback("transformers")
    net = Net()
    net.early.requires_grad_(False)
    net.peft_config = {}
    assert found("transformers", net, tmp_path) == []


def test_pytorch_lightning_is_the_same(tmp_path: Path) -> None:
    doctor, library = callback("lightning"), pytest.importorskip("pytorch_lightning")
    with_lightning(Net(nn.Softmax(dim=1)), tmp_path, Rows(), [doctor], 1, False, library)
    assert [(one.id, one.step) for one in doctor.report()] == [("F1", 1)]


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.LBFGS])
def test_a_closure_that_is_called_before_the_step_changes_nothing(optimizer: Any) -> None:
    pytest.importorskip("lightning")
    from fathom.adapt.lightning import _close_first

    def trained(calls_first: bool) -> Tensor:
        torch.manual_seed(0)
        model, rows = nn.Linear(FEATURES, CLASSES), Rows()
        moved = optimizer(model.parameters(), lr=0.1)
        if calls_first:
            moved.register_step_pre_hook(_close_first)

        def closure() -> Tensor:
            moved.zero_grad()
            loss = F.cross_entropy(model(rows.x), rows.labels)
            loss.backward()
            return loss

        for _ in range(3):
            moved.step(closure=closure)
        return model.weight.detach()

    assert torch.equal(trained(False), trained(True))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_that_is_missing_and_words_that_are_unknown_are_told(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    doctor = callback(library)
    with pytest.raises(UserError, match="Nothing was watched yet"):
        doctor.report()
    with pytest.raises(UserError, match="no option 'thawed'"):
        callback(library, thawed=True)
    with pytest.raises(UserError, match="only looks"):
        callback(library, fix=True)
    monkeypatch.delitem(sys.modules, f"fathom.adapt.{library}")
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UserError, match=f"{library} is not installed. Type: pip install {library}".replace("l", "[lL]", 1)
    ):
        importlib.import_module(f"fathom.adapt.{library}")
