"""Every default of the project, once. Other configs start from `get_config()` here and change values.

The tree mirrors the modules: a section is read by the module of its name and by no other. A key that is not here
does not exist; a value of another type is refused (`emma_jax.command_line` checks both against this file).
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

MODELS = {
    "llama3-8b": dict(rope_scaling_factor=1.0, max_length=8192),
    "llama3.1-8b": dict(rope_scaling_factor=8.0, max_length=131072),
}
# The longer of the paper's runs, 671 billion tokens, with their shares in percent as published: rows are made for it.
MIX_1 = dict(bilingual=32.3, monolingual=26.3, code=15.0, paper=13.2, instruction=11.4, book=1.8)
STEPS, STEP_TOKENS = 40_000, 2**24
TASK_KINDS = dict(bilingual="pair", monolingual="mono")  # of the components that are not called as their tasks are
CLASSES = ("very_high", "high", "medium_high", "medium", "medium_low", "low", "very_low")  # of languages and pairs


def entries() -> dict[str, object]:
    """An example of an entry of each section whose keys are the user's own names, for the check of configs."""
    return {
        "corpus.sources": source("", "", ""),
        "pack.components": component("", 1),
        "mixture": 1.0,
    }


def get_config() -> ConfigDict:
    """The configuration of Llama 3.1 8B with no mixture and no run name: the base that runs are derived from."""
    config = ConfigDict()
    config.run_name = ""  # names the run in logs, checkpoints and reports
    config.seed = 0
    config.mixture = ConfigDict()  # component -> share of tokens, relative to the others
    _set_corpus(config)
    _set_rows(config)
    _set_model(config)
    _set_training(config)
    return config


def source(reader: str, path: str, licence: str, languages: str = "", kind: str = "monolingual", columns: str = ""):
    """A source of the corpus: what `reader` finds in `path`, a folder or file, gs:// or "package:<distribution>".

    `languages` is for what says no language itself: "de", or "en-de" for pairs. `kind` says what documents are:
    monolingual, code, paper, instruction or book. `columns` names columns otherwise: "text=body lang=language".
    """
    section = dict(reader=reader, path=path, licence=licence, languages=languages, kind=kind, columns=columns)
    return ConfigDict(section)


def component(
    tasks: str,
    tokens: int = 0,
    policy: str = "temperature",
    *,
    share: float = 0.0,
    temperature: float = 1.0,
    multipliers: Mapping[str, float] | None = None,
    max_epochs: float = 4.0,
    min_epochs: float = 0.0,
    min_tokens: int = 0,
):
    """A component of the rows: `tokens`, or instead `share` percent of pack.tokens, drawn from tasks by a glob.

    `policy` says how tokens are divided over the tasks: proportional to their sizes; temperature: by size^(1/t), 1 is
    proportional; unimax: equally; resource_class: by size times the multiplier of its class, 1 where none is given. No
    task is drawn more than `max_epochs` times, nor less than `min_epochs` times or `min_tokens`, where there are these.
    """
    section = dict(tasks=tasks, tokens=tokens, share=share, policy=policy, temperature=temperature)
    classes = dict.fromkeys(CLASSES, 1.0) | dict(multipliers or {})
    return ConfigDict(
        section | dict(multipliers=classes, max_epochs=max_epochs, min_epochs=min_epochs, min_tokens=min_tokens)
    )


def paper(model: str) -> ConfigDict:
    """What the four EMMA-500 runs share: a Llama 3 8B named `model`, its tokenizer, rows and batch of 2^24 tokens."""
    if model not in MODELS:
        raise ValueError(f"there is no model {model!r}; this config knows {', '.join(sorted(MODELS))}")
    config = get_config()
    config.model.update(MODELS[model])
    config.train.base = f"base/{model}"
    config.tokenizer.folder = f"base/{model}/tokenizer"
    # One set of rows for all four: what the longer run reads once, and the shorter one not quite.
    config.pack.tokens = STEPS * STEP_TOKENS
    for name, share in MIX_1.items():
        config.pack.components[name] = component(f"{TASK_KINDS.get(name, name)}.*", share=share)
    return config


def _set_corpus(config: ConfigDict) -> None:
    config.corpus = ConfigDict(
        dict(
            folder="corpus",  # holds manifest.json
            sources=ConfigDict(),  # name -> source(...)
            pairs=(),  # pairs without English, aligned through the message id: "deu_Latn-fra_Latn"
            macrolanguages="mala",  # mala: as MaLA has them; members: a macro-language is its principal member; macro
            validation_share=0.05,  # of messages and documents; a worker holds 8 bytes for each text of them
            # Section -> filter -> threshold; 0 or False switches a filter off. Tables of filters: corpus/filters.py.
            filters=ConfigDict(
                dict(
                    sentences=dict(  # messages, and each side of a pair
                        empty=True,
                        too_short=0,  # at least so many characters
                        too_long=2000,  # at most so many characters
                        undecodable=True,  # has U+FFFD
                        few_letters=0.3,  # at least this share of the characters outside markup
                        wrong_script=0.25,  # at least this share of letters in the language's script
                        repeated_ngrams=0.5,  # at least this share of all runs of 8 characters is distinct
                        untranslated=True,  # the same as its message in English
                    ),
                    documents=dict(
                        empty=True,
                        too_short=0,
                        too_long=1_000_000,
                        undecodable=True,
                        few_letters=0.3,
                        wrong_script=0.25,
                        repeated_ngrams=0.2,  # falls with length: 0.36 in an English manual of 700,000 characters
                    ),
                    collections=dict(  # code, papers, instructions, books
                        empty=True,
                        too_long=5_000_000,  # the longest novels have three million
                        undecodable=True,
                        repeated_ngrams=0.1,  # source code: median 0.59, one file in a hundred below 0.25
                    ),
                    pairs=dict(
                        identical_sides=True,
                        length_ratio=3.0,  # at most, in characters as of a Latin text, both sides 10 longer
                        word_ratio=3.0,  # at most, both sides 2 words longer
                        placeholder_mismatch=0.75,  # at least this share of placeholders and tags is on both sides
                        number_mismatch=0.6,  # at least this share of digits is on both sides, where both have some
                    ),
                )
            ),
            shard_bytes=128 << 20,  # of text, before compression; a shard is held in memory while it is written
            num_buckets=0,  # of the exchange between stages; 0: by the size of the sources
            num_workers=1,  # Beam workers of the in-process runner
            exchange="files",  # between stages; shuffle: the runner's GroupByKey, for many machines
            beam_options=(),  # Beam pipeline options, such as "--runner=DataflowRunner"
        )
    )


def _set_rows(config: ConfigDict) -> None:
    config.tokenizer = ConfigDict(
        dict(
            folder="tokenizer",  # tokenizer.json or tokenizer.model, or a Hugging Face folder that holds one
            vocab_size=8192,  # of a tokenizer that is trained here
            max_sentences=2_000_000,
            character_coverage=0.9995,
        )
    )
    config.rendering = ConfigDict(
        dict(
            pair_line="[{language}]: {text}\n",
            language_label="name",  # name: English name; code: xxx_Ssss
            pairs_per_document=10,
            direction="both",  # a document in each; random: a direction per document; stored: source first
            # Documents of each kind; that of a language may name it as {language}, which no collection is in.
            documents=dict.fromkeys(("mono", "code", "paper", "instruction", "book"), "{text}"),
        )
    )
    config.pack = ConfigDict(
        dict(
            folder="rows",
            replace=False,  # whether finished rows of another config, corpus or tokenizer are removed and packed again
            row_length=8192,  # tokens that a row predicts
            tokens=0,  # of the run that rows are made for, in all; of use to components that have a share of it
            components=ConfigDict(),  # name -> component(...)
            packing="best_fit",  # whole documents; concatenate: rows are full, documents go on in the next
            window_documents=16384,  # documents that best_fit chooses among
            rows_per_shard=65536,
            validation_documents=8,  # per language and per direction
            num_workers=1,
            beam_options=(),
        )
    )
    config.input_pipeline = ConfigDict(
        dict(
            batch_rows=2048,
            num_threads=16,  # rows that are fetched at a time, so that the latency of a bucket is waited for once
            patience_seconds=300.0,  # for which a row that cannot be read is tried again, before the run ends
        )
    )


def _set_model(config: ConfigDict) -> None:
    config.model = ConfigDict(
        dict(
            vocab_size=128256,
            num_layers=32,
            model_dim=4096,
            num_heads=32,
            num_kv_heads=8,
            head_dim=128,
            mlp_dim=14336,
            norm_epsilon=1e-5,
            tie_embeddings=False,
            rope_theta=500000.0,
            rope_scaling_factor=8.0,  # 1: no scaling (Llama 3); the next three are of Llama 3.1's frequency scaling
            rope_low_frequency_factor=1.0,
            rope_high_frequency_factor=4.0,
            rope_original_length=8192,
            max_length=131072,  # only recorded in config.json of an export
            initializer_range=0.02,
            compute_dtype="bfloat16",
            # What the backward pass finds saved. full: layer inputs only; attention, qkv, minimal: more of what
            # matmuls and the kernel compute; none: everything. See REMAT_SAVES in model.py.
            remat="full",
            attention="auto",  # splash: the Pallas kernel for TPUs; xla; auto: by platform
        )
    )


def _set_training(config: ConfigDict) -> None:
    config.loss = ConfigDict(
        dict(
            vocab_chunks=6,  # parts of the vocabulary whose logits exist at one time, in training
            chunk_length=1024,  # positions of each row whose logits exist at one time, in scoring
            z_loss=0.0,  # weight of log(Z)^2, which keeps logits small; 1e-4 where it is used
        )
    )
    config.sharding = ConfigDict(
        dict(
            data=1,
            fsdp=-1,  # -1: all remaining devices
            tensor=1,
            distributed=False,  # whether several hosts train together, as on a pod
        )
    )
    config.optimizer = ConfigDict(
        dict(
            learning_rate=1e-4,
            final_learning_rate=1e-5,
            schedule="cosine",  # wsd: at the peak, then down a line over the last decay_share of all steps
            decay_share=0.2,
            warmup_steps=0,
            b1=0.9,
            b2=0.95,
            epsilon=1e-8,
            weight_decay=0.1,
            clip_norm=1.0,
            moments_dtype="float32",  # as they are kept between steps; bfloat16 halves their memory
        )
    )
    config.train = ConfigDict(
        dict(
            steps=0,
            base="",  # a workdir whose parameters the run starts from; empty: random initial parameters
            start_loss_tolerance=0.05,  # nats per token between the base's loss here and by transformers (hf verify)
            microbatches=1,
            validate_every_steps=1000,  # also at the first and the last step; 0: never
            validation_batch_rows=64,
        )
    )
    config.checkpoint = ConfigDict(dict(save_every_steps=500, keep=3))
    config.evaluation = ConfigDict(
        dict(
            sentences_per_direction=100,
            texts_per_language=100,  # of the held-out text, for bits per byte
            row_length=2048,  # tokens; a sentence that is longer with its source is left out and counted
            slots=16,  # texts that are generated at a time
            num_samples=5,  # sample translations
            max_new_tokens=128,
        )
    )
