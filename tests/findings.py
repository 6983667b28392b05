"""One finding of every kind of evidence, as a run folder keeps them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fathom.doctor.finding import Finding
from fathom.report.mistaken import Mistaken


def jump(at: int, steps: int = 200) -> list[list[float]]:
    """Losses that fall, and jump at a step."""
    return [[s, 2.0 * math.exp(-s / 60) + 0.1 + 0.02 * math.sin(s) + (40 if s >= at else 0)] for s in range(steps)]


def every(examples: Sequence[Mistaken]) -> list[dict[str, Any]]:
    """As of a run of two folds; the rows of D6 are among the examples."""
    layers = [
        {
            "name": f"layers.{i}.weight",
            "weight": 0.3,
            "gradient": 1e-3 * 4.0 ** (i - 11),
            "update": 1e-6 * 3.0 ** (i - 11),
        }
        for i in range(12)
    ]
    depth = {str(i): 2.0 * i for i in range(10)}
    nothing = Finding(
        "F4",
        "2 parameters (130 of 1,203 numbers) had no gradient at 6 steps: body.0.weight, body.0.bias",
        "The loss does not depend on them: the forward pass does not use them, or detaches what they make.",
        "Follow the forward pass from them to the loss; look for detach(), .data, no_grad, argmax.",
        "exact",
        step=6,
        evidence={"parameters": ["body.0.weight", "body.0.bias"], "share": 0.1},
        symptom_of=("F1",),
    )
    found = [
        Finding(
            "F1",
            "The cross-entropy of 10 classes gets probabilities and takes a softmax of it again: its floor is 1.461",
            "The model ends with a softmax.",
            "Leave the softmax out while training; keep it for use.",
            "exact",
            step=1,
            evidence={"floor": 1.461},
            symptoms=(nothing,),
        ),
        Finding(
            "F10",
            "At the rate 0.5 a copy runs away in 40 steps, at 0.005 it learns 62 % of its loss away",
            "The learning rate is too high: each step overshoots.",
            "Take a learning rate of about 0.005, or begin with a warm-up.",
            "experiment",
            evidence={"factors": [0.01, 0.1, 1.0, 10.0, 100.0], "learnt": [0.62, 0.3, -1.0, -1.0, float("nan")]},
        ),
        Finding(
            "F3",
            "Spreads of the inputs differ up to 1.2e+04 times",
            "The inputs are not normalised: one learning rate cannot suit all of them.",
            "Subtract the mean of the training rows and divide by their deviation.",
            "experiment",
            evidence={
                "plain": [2.3 - i / 200 for i in range(40)],
                "standardised": [2.3 / (1 + i / 4) for i in range(40)],
            },
        ),
        Finding(
            "F8",
            "The mean square of the outputs of 10 layers grows 6.6e+07 times from the first to the last",
            "The first weights are too large for their activations.",
            "Start them by He's rule before ReLU and by Glorot's before tanh.",
            "test",
            0.9999,
            evidence={"forwards": depth, "backwards": {k: v - 9 for k, v in depth.items()}},
        ),
        Finding(
            "T1",
            "The loss has been 12 deviations above its usual course at 5 of the last 10 steps",
            "The learning rate is too high for this stage of the training.",
            "Go back to weights from before, and take half the rate.",
            "test",
            0.99,
            step=150,
            evidence={"kind": "diverged", "losses": jump(150)},
        ),
        Finding(
            "T2",
            "The loss jumped once, to 40.2, at step 90; the same rows cost as much with the weights of before",
            "The batch is unlike the others.",
            "Look at these rows.",
            "test",
            0.99,
            step=90,
            evidence={"rows": [3, 17], "losses": [[s, 0.4 if s != 90 else float("nan")] for s in range(60, 110)]},
        ),
        Finding(
            "T3",
            "At 3 looks the first 4 of 12 layers got less than a thousandth of what the net's middle gets back",
            "On the way back through the layers the gradient shrinks at each.",
            "Use ReLU or GELU, and put norms or residual connections between layers.",
            "test",
            0.99,
            step=100,
            evidence={"layers": layers, "first": 4},
        ),
        Finding(
            "T6",
            "The loss on judged rows was best at step 60 (0.61) and is 0.99 now, while that on training rows is 0.02",
            "The model learns its training rows by heart.",
            "Take the weights of step 60 and stop there.",
            "test",
            0.99,
            step=200,
            evidence={"judged": [[s, 0.61 + ((s - 60) / 220) ** 2] for s in range(0, 201, 20)]},
        ),
        Finding(
            "T8",
            "The batch of 8 rows is at least 40 times smaller than the noise of its gradients asks for",
            "Steps are mostly chance.",
            "Take batches of 320 rows and twice the rate.",
            "test",
            0.99,
            evidence={"advice": True, "batch": 8},
        ),
        Finding(
            "D4",
            "'casual' and 'registered' add up to 'count' in all rows",
            "They say the target in other words.",
            "They were left out.",
            "exact",
            evidence={"columns": ["casual", "registered"]},
        ),
        Finding(
            "D6",
            f"{len(examples)} rows have another label than all models together give them",
            "Somebody mistook them, or the classes overlap there.",
            "Look at these rows first.",
            "test",
            0.995,
            evidence={"rows": list(range(len(examples))), "places": [one.place for one in examples]},
        ),
        Finding(
            "A2",
            "Of class '8' 31.0 % are found, 71.2 % were promised",
            "It fails there without knowing it.",
            "Look at these rows and their labels first.",
            "test",
            0.99999,
            evidence={
                "groups": [{"name": "class '8'", "rows": 87, "right": 0.31, "expected": 0.712, "z": 8.2}],
                "places": [f"data.csv:{i}" for i in range(2, 8)],
            },
        ),
    ]
    watched = ("F1", "T1", "T2", "T3", "T6", "T8")
    kept = [one.to_json() for one in found if one.id not in watched]
    for fold in (0, 1):
        kept += [one.to_json() | {"fold": fold} for one in found if one.id in watched and (fold == 0 or one.id == "F1")]
    return kept
