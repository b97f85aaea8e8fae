"""What an export tells of itself: README.md, the card that Hugging Face shows, and provenance.json for programs.

Both are filled from the checkpoint and from what the run left in its workdir. It computes nothing of the model.
"""

import json
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath
from google.protobuf.message import DecodeError

from emma_jax import composition, languages, metric_writer, safetensors_folder, tokenizer
from emma_jax.checkpoint import Metadata
from emma_jax.composition import Composition

VERSION = 1
PROVENANCE_FILE = "provenance.json"
LICENCE_KEYS = ("license", "license_name", "license_link")
HUB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
HUB_CACHE = re.compile(r".*/models--([^/]+?)--([^/]+)/snapshots/[^/]+")  # how huggingface_hub lays out what it fetches
LINE_LENGTH = 100

Series = Mapping[str, Sequence[tuple[int, float]]]  # tag -> (step, value) pairs

HOW_TO_LOAD = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")
model = AutoModelForCausalLM.from_pretrained("path/to/this/folder")
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))
```"""


def base_name(source: str, config_json: Mapping[str, Any]) -> str:
    """What to call the model in the Hugging Face folder `source`: its name on the Hub, else that of the folder.

    >>> base_name("base/llama", {"_name_or_path": "meta-llama/Llama-3.1-8B"})
    'meta-llama/Llama-3.1-8B'
    >>> base_name("hub/models--meta-llama--Llama-3.1-8B/snapshots/d04e592bb4f6", {})
    'meta-llama/Llama-3.1-8B'
    >>> base_name("base/llama/", {"_name_or_path": "/home/me/llama"})
    'llama'
    """
    name, folder = config_json.get("_name_or_path"), os.path.abspath(source)
    # A path relative to the current folder can look just like a name on the Hub.
    if isinstance(name, str) and HUB_NAME.fullmatch(name) and not epath.Path(name).exists():
        return name
    cached = HUB_CACHE.fullmatch(folder)
    return "/".join(cached.groups()) if cached else os.path.basename(folder)


def write(folder: epath.Path, workdir: epath.Path, step: int, metadata: Metadata, dtype: str) -> None:
    """Writes README.md and provenance.json to `folder`, an export of `step` of `workdir` with weights in `dtype`.

    `metadata` is that of the checkpoint. What else the card tells is left out where the workdir does not have it: the
    composition of the mixture, the metrics, the card of the base beside the tokenizer. `folder` has the licence files.
    Raises ValueError if the first or second of those is damaged.
    """
    folder, workdir = epath.Path(folder), epath.Path(workdir)
    base, is_trained = _base(metadata), "train" in metadata.config
    data = composition.read(workdir) if is_trained else None
    card = workdir / "tokenizer" / tokenizer.CARD_FILE
    # Without a base that card is not of a model that this one comes from.
    licence = licence_fields(card.read_bytes().decode(errors="replace")) if base and card.exists() else {}
    name = metadata.config.get("run_name") or workdir.name
    if is_trained:
        series = _series(workdir, step)
        sections = [
            _title(name, base, step, metadata.config),
            _training(step, metadata.config, data, _counted_tokens(series, step)),
            _languages(data),
            _metrics(series),
        ]
    else:
        sections = [_title_of_import(base or name)]
    sections += [_tensors(dtype, metadata), _loading(metadata, data), _licence(folder, base, licence, metadata.config)]
    text = front_matter(base, data.languages if data else [], licence) + "\n\n".join(filter(None, sections)) + "\n"
    (folder / tokenizer.CARD_FILE).write_text(text, encoding="utf-8")
    provenance = dict(
        version=VERSION,
        run_name=metadata.config.get("run_name", ""),
        base=base,
        step=step,
        dtype=dtype,
        tokenizer=metadata.tokenizer,
        rows=metadata.rows,
        validation_rows=metadata.validation_rows,
    )
    safetensors_folder.write_json(folder / PROVENANCE_FILE, provenance)


def front_matter(base: str, codes: Sequence[str], licence: Mapping[str, str]) -> str:
    """The head of a card, in YAML, of a model from `base` of the languages `codes` (xxx_Ssss).

    >>> print(front_matter("org/llama", ["swh_Latn", "srp_Cyrl", "srp_Latn"], {"license": "llama3.1"}), end="")
    ---
    library_name: transformers
    pipeline_tag: text-generation
    base_model: "org/llama"
    license: "llama3.1"
    language:
    - "srp"
    - "swh"
    ---
    """
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    if HUB_NAME.fullmatch(base):
        lines.append(f"base_model: {json.dumps(base)}")
    lines += [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in licence.items()]
    # Quoted: there is a language `yes`, and YAML has a truth value of that name.
    of_languages = [f"- {json.dumps(language)}" for language in sorted({code[:3] for code in codes})]
    lines += ["language:", *of_languages] if of_languages else []
    return "\n".join(["---", *lines, "---", ""])


def licence_fields(card: str) -> dict[str, str]:
    """What the front matter of a card says of the licence; values of several lines are left out.

    >>> licence_fields("---\\nlanguage: en\\nlicense: 'llama3.1'  # of Meta\\n---\\n# Llama\\nlicense: all mine\\n")
    {'license': 'llama3.1'}
    """
    lines = card.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != "---":
        return {}
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), 0)
    fields = {}
    for line in lines[1:end]:
        key, _, value = line.partition(":")
        value = re.sub(r"\s#.*", "", value).strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        if key in LICENCE_KEYS and value and value[0] not in "|>[{&*!'\"":
            fields[key] = value
    return fields


def _base(metadata: Metadata) -> str:
    """The name of the base; of a run whose checkpoints do not say it, that of the workdir it started from."""
    return metadata.base or os.path.basename(metadata.config.get("train", {}).get("base", "").rstrip("/"))


def _title(name: str, base: str, step: int, config: Mapping[str, Any]) -> str:
    train = config["train"]
    origin = f"continues {_linked(base)}" if base else "began with random parameters"
    text = f"A Llama that {origin}: step {step:,} of {train['steps']:,} of the run `{name}`, trained with emma_jax."
    return f"# {name}\n\n{_paragraph(text)}"


def _title_of_import(base: str) -> str:
    text = (
        f"An unchanged conversion of {_linked(base)}: its tensors were read and written again by emma_jax, and nothing "
        "was trained."
    )
    return f"# {base.rpartition('/')[2]}, converted\n\n{_paragraph(text)}"


def _training(step: int, config: Mapping[str, Any], data: Composition | None, counted: int | None) -> str:
    optimizer, steps = config["optimizer"], config["train"]["steps"]
    batch_rows, length = config["input_pipeline"]["batch_rows"], config["pack"]["row_length"]
    exact = f" {counted:,} of them were; the rest is the padding at the ends of rows." if counted is not None else ""
    warmup = f"rises from 0 over {optimizer['warmup_steps']:,} steps to" if optimizer["warmup_steps"] else "starts at"
    fall = "falls along a cosine"
    if optimizer.get("schedule") == "wsd":
        fall = f"stays there, then over the last {100 * optimizer['decay_share']:g} % of steps falls along a line"
    facts = [
        f"Tokens: {step:,} steps of {batch_rows:,} rows of {length:,} tokens, so at most "
        f"{step * batch_rows * length:,} were predicted.{exact}",
        f"Learning rate: {warmup} {optimizer['learning_rate']:g}, then {fall} to "
        f"{optimizer['final_learning_rate']:g} at step {steps:,}.",
        f"Optimizer: AdamW with betas {optimizer['b1']:g} and {optimizer['b2']:g}, epsilon {optimizer['epsilon']:g}, "
        f"weight decay {optimizer['weight_decay']:g} (norms excepted), gradients clipped to norm "
        f"{optimizer['clip_norm']:g}.",
        f"Precision: master weights in float32, optimizer state in {optimizer.get('moments_dtype', 'float32')}, "
        f"computation in {config['model']['compute_dtype']}.",
    ]
    weights = config.get("mixture", {})
    rows = [(name, weight / sum(weights.values()), "") for name, weight in sorted(weights.items())]
    if data:
        rows = [(part.name, part.share, f"{len(part.tasks):,}") for part in data.components]
    table = [f"| {name} | {100 * share:.2f} % | {tasks} |" for name, share, tasks in rows]
    mixture = ["The mixture:", "", "| component | share of tokens | tasks |", "| :-- | --: | --: |", *table]
    return "\n".join(["## Training", "", *map(_item, facts), "", *mixture])


def _languages(data: Composition | None) -> str:
    if not data or not data.languages:
        return ""
    count, num_pairs = len(data.languages), len(data.pairs)
    pairs = f" and {_plural(num_pairs, 'language pair')}" if num_pairs else ", each by itself"
    names = ", ".join(f"{languages.name(code)} ({code})" for code in data.languages)
    return f"## Languages\n\nTrained on {_plural(count, 'language')}{pairs}:\n\n{_paragraph(names)}."


def _metrics(series: Series) -> str:
    lines = []
    for kind, label in (("mono", "languages"), ("pair", "directions")):
        loss, bits = (dict(series.get(f"validation_{what}/{kind}", ())) for what in ("loss", "bits_per_byte"))
        steps = sorted(loss.keys() & bits.keys())
        for step in dict.fromkeys([*steps[:1], *steps[-1:]]):
            lines.append(f"| {label} | {step:,} | {loss[step]:.4f} | {bits[step]:.4f} |")
    if not lines:
        return ""
    text = (
        "On validation texts, which were not trained on, at the first and the last validation. Loss is in nats per "
        "token, over all tokens; bits per byte are of the text in UTF-8, and the mean over languages, or over the "
        "directions of translation."
    )
    head = ["| texts | step | loss | bits per byte |", "| :-- | --: | --: | --: |"]
    return "\n".join(["## Metrics", "", _paragraph(text), "", *head, *lines])


def _tensors(dtype: str, metadata: Metadata) -> str:
    rounding = {
        "float32": "values are those of the checkpoint",
        "bfloat16": "values of the checkpoint are rounded to nearest, ties to even",
    }
    facts = [f"Stored as {dtype}: {rounding[dtype]}."]
    for label, fingerprint in (("Tokenizer", metadata.tokenizer), ("Training rows", metadata.rows)):
        if fingerprint:
            facts.append(f"{label}: SHA-256 `{fingerprint}`")
    facts.append(f"`{PROVENANCE_FILE}` says the same to programs.")
    return "\n".join(["## Tensors", "", *map(_item, facts)])


def _loading(metadata: Metadata, data: Composition | None) -> str:
    text = f"## How to load\n\n{HOW_TO_LOAD}"
    rendering = metadata.config.get("rendering")
    if not rendering or not data or not data.pairs:
        return text
    label = {"name": "English name", "code": "code"}.get(rendering["language_label"], "label")
    line = json.dumps(rendering["pair_line"], ensure_ascii=False)
    pairs = (
        f"Of a pair each side was rendered as {line}, with the {label} of its language, the source before its target."
    )
    return f"{text}\n\n{_paragraph(pairs)}"


def _licence(folder: epath.Path, base: str, licence: Mapping[str, str], config: Mapping[str, Any]) -> str:
    copied = [f"`{name}`" for name in tokenizer.LICENCE_FILES if (folder / name).exists()]
    text = []
    if base:
        named = licence.get("license_name") or licence.get("license")
        its = f"The licence of {_linked(base)}" + (f", `{named}`," if named else "")
        there = f"copied from it: {', '.join(copied)}" if copied else "no licence file came with it"
        text.append(
            f"{its} applies to weights derived from it, and so to these ({there}). Read it before you pass them on: it "
            "may ask for a name, a notice, or limits of use."
        )
    elif copied:
        text.append(f"These files came with the tokenizer: {', '.join(copied)}.")
    if "train" in config:
        sources = config.get("corpus", {}).get("sources", {})
        named = [f"{name} ({entry['licence']})" for name, entry in sorted(sources.items()) if entry.get("licence")]
        listed = f": {', '.join(named)}" if named else ""
        text.append(f"The texts that were trained on are under the licences of their sources{listed}.")
    return "\n\n".join(["## Licence", *map(_paragraph, text)]) if text else ""


def _series(workdir: epath.Path, step: int) -> Series:
    """The metrics of the run up to `step`."""
    try:
        series = metric_writer.read(workdir / "events")
    except DecodeError as error:
        raise ValueError(
            f"{workdir / 'events' / metric_writer.FILE_NAME} is damaged ({error}); move it away"
        ) from error
    return {tag: [point for point in points if point[0] <= step] for tag, points in series.items()}


def _counted_tokens(series: Series, step: int) -> int | None:
    """Targets that were predicted up to `step`, or None if the metrics do not tell those of every step."""
    counts = dict(series.get("tokens", ()))
    return round(sum(counts.values())) if len(counts) == step else None


def _linked(name: str) -> str:
    return f"[{name}](https://huggingface.co/{name})" if HUB_NAME.fullmatch(name) else f"`{name}`"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("s" if count != 1 else "")


def _paragraph(text: str, indent: str = "") -> str:
    return textwrap.fill(text, LINE_LENGTH, subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def _item(text: str) -> str:
    return _paragraph(f"- {text}", indent="  ")
