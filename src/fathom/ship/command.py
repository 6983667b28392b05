"""The command `fathom export`: its options, and what it prints."""

from __future__ import annotations

import argparse

FORMATS = ("onnx", "torch")
WEIGHTS = ("fp32", "fp16", "bf16", "int8")


def add_options(export: argparse.ArgumentParser) -> None:
    """The words of the command."""
    export.add_argument("folder", metavar="RUN", help="a run folder")
    export.add_argument("--format", choices=FORMATS, default="onnx", help="ONNX, or a program of torch.export (onnx)")
    export.add_argument("--out", metavar="FOLDER", help="the folder to make (exports/RUN-FORMAT)")
    export.add_argument("--model", metavar="NAME", help="another model of the run than the advised one")
    export.add_argument("--weights", choices=WEIGHTS, default="fp32", help="smaller weights of a network (fp32)")
    export.add_argument("--most-loss", type=float, metavar="SHARE", help="of the metric, that these may cost (0.005)")
    export.add_argument("--rows", metavar="DATA", help="rows to compare on, where the data of the run is gone")


def run(given: argparse.Namespace, started: float) -> int:
    """Export, telling what is compared and measured; the exit code comes back."""
    from fathom.console import Console
    from fathom.run import RunFolder
    from fathom.ship.export import export
    from fathom.ship.predict import Model

    console = Console()
    found = export(
        Model(RunFolder.open_finished(given.folder)),
        given.out,
        format=given.format,
        candidate=given.model,
        weights=given.weights,
        most_loss=given.most_loss,
        rows=given.rows,
        say=console.stage,
    )
    needs = ", ".join(name for name in found.check["needs"] if name != "python")
    console.stage("Kept in", f"{found.path}: {found.check['model']}, needs {needs}")
    console.more(f"next: python {found.path / 'predictor.py'} NEW_DATA")
    return 0
