"""Settings of a config.json that no family asked for: those that change no answer, those to be told of, those refused.

What a reader would get wrong: a name counts as known because the family's `read` asked for it, so there is no list of
known names to keep. Only what everybody's files say without effect is listed here.

    >>> settings = Settings({"use_cache": True, "logit_scale": 0.5, "alpha": None}, where="config.json")
    >>> note_on_unread(settings)
    'config.json says logit_scale=0.5, which nothing here reads. If the model needs it, its answers are others here.'
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Settings

REFUSED = ("quantization_config", "compression_config")
HARMLESS = {
    "who wrote the file, and in which type": "transformers_version torch_dtype dtype _* finetuning_task output_past",
    "what else is handed out": "output_* return_dict use_return_dict use_cache torchscript",
    "how it is computed": "chunk_size* pretraining_tp reorder_and_upcast_attn gradient_checkpointing use_bfloat16 "
    "residual_in_fp32 fused_add_norm use_mamba_kernels use_mambapy use_associative_scan num_logits_to_keep",
    "how weights start and are trained": "initializer_* rescale_prenorm_residual time_step_* logit_scale_init_value "
    "problem_type classifier_dropout qa_dropout seq_classif_dropout",
    "other uses of the same weights": "id2label label2id num_labels summary_* pooler_* directionality encoder_stride "
    "out_features out_indices stage_names is_encoder_decoder task_specific_params *_token_id prefix",
    "how texts are written, by arguments here": "do_sample temperature top_k top_p max_length min_length num_beams "
    "length_penalty repetition_penalty no_repeat_ngram_size early_stopping",
    "what follows from other settings": "n_ctx d_model d_inner n_layer dense_act_fn is_gated_act num_hidden_layers "
    "layers_block_type ssm_cfg pad_vocab_size_multiple sinusoidal_pos_embds tie_weights_",
}
SHOWN = 5


def note_on_unread(settings: Settings) -> str:
    """What was said and not asked for, "" where that is nothing. Raises UserError where the tensors are no numbers."""
    for name in REFUSED:
        if settings.get(name) is not None:
            raise UserError(
                f"{settings.where} says {name}={_short(settings[name])}: these weights are quantized in a way that is "
                "not read. Name the folder that they were made from, or a GGUF file."
            )
    unread = {name: value for name, value in settings.items() if name not in settings.asked and value is not None}
    harmless = " ".join(HARMLESS.values()).split()
    found = [f"{n}={_short(v)}" for n, v in unread.items() if not any(fnmatchcase(n, kind) for kind in harmless)]
    if not found:
        return ""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        f"{settings.where} says {', '.join(found[:SHOWN])}{more}, which nothing here reads. If the model needs it, its "
        "answers are others here."
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
