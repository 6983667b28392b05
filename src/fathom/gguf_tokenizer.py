"""The tokenizer inside a GGUF file: byte-level BPE, the kind that llama.cpp calls "gpt2".

What a reader would get wrong: vocabulary and merges are not all of a tokenizer. How a text is cut before the merges
begin stands in the file as a name only ("smollm", "llama-bpe"), and the rule behind it is known or it is not. Where it
is not, there is no tokenizer and a note that says so: one with another rule would work and be wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fathom.errors import UserError
from fathom.weights.parts.blueprint import Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTROL, USER_DEFINED = 3, 4  # in token_type: those that stand for no text, and those that are always matched whole


@dataclass(frozen=True)
class Cutting:
    """How a text is cut before the merges. `pattern` None is GPT-2's, which ByteLevel has itself."""

    pattern: str | None = None
    single_digits: bool = False
    whole_words: bool = False  # a piece that is a token is taken as such, whatever the merges would make of it
    starts: bool = False  # with the start token, unless the file says otherwise
    composed: bool = False  # Unicode's normal form C first


def _words(digits: str) -> str:
    """The rule of Llama 3, which Qwen 2 changed in one place: how many digits stay together."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
        rf"{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


LLAMA_3 = Cutting(_words(r"\p{N}{1,3}"), whole_words=True, starts=True)
CUTTINGS = {
    "gpt-2": Cutting(),
    "smollm": Cutting(single_digits=True),
    "llama-bpe": LLAMA_3,
    "llama-v3": LLAMA_3,
    "llama3": LLAMA_3,
    "qwen2": Cutting(_words(r"\p{N}"), composed=True),
    "deepseek-r1-qwen": Cutting(_words(r"\p{N}")),
}
UNNAMED = "default"  # what old converters wrote, or left out


def tokenizer_of(settings: Settings) -> tuple[Tokenizer | None, str]:
    """The file's tokenizer and a note on what was chosen or is missing, "" where there is nothing to say.

    Raises UserError where the tokenizer in the file contradicts itself.
    """
    kind = settings.get("tokenizer.ggml.model")
    if kind is None:
        return None, f"{settings.where} holds no tokenizer."
    if kind != "gpt2":
        return None, f"{settings.where} has a tokenizer of the kind '{kind}', which is not read: only 'gpt2' is."
    rule = settings.get("tokenizer.ggml.pre", UNNAMED)
    if rule != UNNAMED and rule not in CUTTINGS:
        return None, (
            f"{settings.where} has a tokenizer that cuts texts by the rule '{rule}', which is not known "
            f"({', '.join(CUTTINGS)} are), so it was not read."
        )
    note = f"{settings.where} does not say how its tokenizer cuts texts. They are cut as GPT-2's are."
    return _built(settings, CUTTINGS.get(rule, CUTTINGS["gpt-2"])), note if rule == UNNAMED else ""


def _built(settings: Settings, cutting: Cutting) -> Tokenizer:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers

    tokens = settings["tokenizer.ggml.tokens"]
    vocabulary = {token: place for place, token in enumerate(tokens)}
    merges = [tuple(merge.split(" ")) for merge in settings["tokenizer.ggml.merges"]]
    kinds = settings.get("tokenizer.ggml.token_type", [])
    _check(vocabulary, merges, tokens, kinds, settings.where)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=cutting.whole_words))
    if cutting.composed:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(cutting)
    tokenizer.decoder = decoders.ByteLevel()
    for control, add in ((CONTROL, tokenizer.add_special_tokens), (USER_DEFINED, tokenizer.add_tokens)):
        chosen = [token for token, kind in zip(tokens, kinds) if kind == control]
        add([AddedToken(token, normalized=False, special=control == CONTROL) for token in chosen])
    tokenizer.post_processor = _post_processor(settings, tokens, cutting)
    return tokenizer


def _check(
    vocabulary: Mapping[str, int], merges: list[tuple[str, ...]], tokens: list[str], kinds: list[int], where: str
) -> None:
    if len(vocabulary) < len(tokens):
        raise UserError(f"{where} lists a token twice in tokenizer.ggml.tokens.")
    if kinds and len(kinds) != len(tokens):
        raise UserError(f"{where} lists {len(tokens)} tokens and {len(kinds)} of tokenizer.ggml.token_type.")
    for merge in merges:
        if len(merge) != 2 or not {*merge, "".join(merge)} <= vocabulary.keys():
            raise UserError(
                f"{where} has '{' '.join(merge)}' in tokenizer.ggml.merges, which makes none of its tokens."
            )


def _pre_tokenizer(cutting: Cutting) -> Any:
    from tokenizers import Regex, pre_tokenizers

    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cutting.pattern is None)
    before: list[Any] = []
    if cutting.single_digits:
        before.append(pre_tokenizers.Digits(individual_digits=True))
    if cutting.pattern is not None:
        before.append(pre_tokenizers.Split(Regex(cutting.pattern), behavior="isolated"))
    return pre_tokenizers.Sequence([*before, bytes_of])


def _post_processor(settings: Settings, tokens: list[str], cutting: Cutting) -> Any:
    """Offsets without the space in front of a word, and the tokens at start and end where the file wants them."""
    from tokenizers import processors

    ends = {}
    for place, unsaid in (("bos", cutting.starts), ("eos", False)):
        if settings.get(f"tokenizer.ggml.add_{place}_token", unsaid):
            number = settings[f"tokenizer.ggml.{place}_token_id"]
            if not 0 <= number < len(tokens):
                raise UserError(
                    f"{settings.where} says tokenizer.ggml.{place}_token_id={number} of {len(tokens)} tokens."
                )
            ends[place] = (tokens[number], number)
    offsets = processors.ByteLevel(trim_offsets=True)
    if not ends:
        return offsets
    start, end = ([ends[place][0]] if place in ends else [] for place in ("bos", "eos"))
    template = processors.TemplateProcessing(
        single=[*start, "$A", *end],
        pair=[*start, "$A", *end, *(f"{token}:1" for token in start), "$B:1", *(f"{token}:1" for token in end)],
        special_tokens=list(ends.values()),
    )
    return processors.Sequence([offsets, template])
