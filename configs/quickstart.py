"""The whole way at the size of a laptop: gettext catalogs in, a continually pre-trained tiny Llama 3.1 out.

`:base` pre-trains on English; `:monolingual` and `:bilingual` are the two arms, which continue from the base for the
same number of tokens. All three share one corpus, tokenizer and set of rows. On 2 cores each takes a few minutes.
"""

from configs import base

ROOT = "quickstart"
PAIRS = (
    # Pairs without English, over several scripts.
    "deu_Latn-fra_Latn", "fra_Latn-spa_Latn", "ita_Latn-spa_Latn", "por_Latn-spa_Latn", "cat_Latn-spa_Latn",
    "deu_Latn-nld_Latn", "dan_Latn-swe_Latn", "nob_Latn-swe_Latn", "isl_Latn-nob_Latn", "fin_Latn-swe_Latn",
    "est_Latn-fin_Latn", "ces_Latn-slk_Latn", "ces_Latn-pol_Latn", "hrv_Latn-slv_Latn", "lav_Latn-lit_Latn",
    "ron_Latn-ita_Latn", "hun_Latn-deu_Latn", "eus_Latn-spa_Latn", "glg_Latn-por_Latn", "cym_Latn-gle_Latn",
    "bel_Cyrl-rus_Cyrl", "rus_Cyrl-ukr_Cyrl", "bul_Cyrl-mkd_Cyrl", "bul_Cyrl-rus_Cyrl", "pol_Latn-ukr_Cyrl",
    "rus_Cyrl-zho_Hani", "mon_Cyrl-rus_Cyrl", "deu_Latn-rus_Cyrl", "ell_Grek-fra_Latn", "ell_Grek-tur_Latn",
    "ara_Arab-fra_Latn", "ara_Arab-fas_Arab", "ara_Arab-heb_Hebr", "fas_Arab-tur_Latn", "jpn_Jpan-kor_Hang",
    "jpn_Jpan-zho_Hani", "kor_Hang-zho_Hani", "vie_Latn-zho_Hani", "hye_Armn-rus_Cyrl", "kat_Geor-rus_Cyrl",
)  # fmt: skip


def get_config(arm: str = "bilingual"):
    """The configuration of one of the runs `base`, `monolingual`, `bilingual`."""
    mixtures = {
        "base": dict(english=1.0),
        "monolingual": dict(monolingual=1.0),
        # The paper's shares of the two components that exist here.
        "bilingual": dict(bilingual=32.3, monolingual=26.3),
    }
    if arm not in mixtures:
        raise ValueError(f"there is no run {arm!r}; this config knows {', '.join(mixtures)}")
    config = base.get_config()
    config.run_name = f"quickstart-{arm}"

    config.corpus.folder = f"{ROOT}/corpus"
    for name in ("django", "sphinx", "wagtail"):
        config.corpus.sources[name] = base.source("gettext", f"package:{name}", licence="BSD")
    config.corpus.pairs = PAIRS

    config.tokenizer.folder = f"{ROOT}/tokenizer"
    config.tokenizer.vocab_size = 8192

    config.pack.folder = f"{ROOT}/rows"
    # Long documents are cut: rows are full, so that the arms see the same number of tokens in the same number of steps.
    config.pack.row_length = 256
    config.pack.rows_per_shard = 2048
    config.pack.validation_documents = 2
    config.pack.num_workers = 2
    config.pack.components.english = base.component("mono.eng_Latn", tokens=400_000, max_epochs=16.0)
    config.pack.components.monolingual = base.component("mono.*", tokens=1_000_000, temperature=2.0)
    config.pack.components.bilingual = base.component("pair.*", tokens=600_000, temperature=2.0)

    config.mixture.update(mixtures[arm])
    config.input_pipeline.batch_rows = 16
    config.model.update(
        vocab_size=8192, num_layers=4, model_dim=192, num_heads=6, num_kv_heads=2, head_dim=32, mlp_dim=512,
        max_length=2048, rope_original_length=256, compute_dtype="float32", remat="none",
    )  # fmt: skip
    config.optimizer.update(learning_rate=2e-3, final_learning_rate=2e-4, warmup_steps=20)
    config.train.steps = 100 if arm == "base" else 240
    config.train.base = "" if arm == "base" else f"{ROOT}/base_imported"
    config.train.update(validate_every_steps=80, validation_batch_rows=32)
    config.checkpoint.save_every_steps = 40
    config.loss.chunk_length = 64
    config.evaluation.update(sentences_per_direction=16, row_length=256, max_new_tokens=48)
    return config
