"""The paper's corpus with everything that a manifest can tell of one that was built: no file that it names exists."""

import dataclasses

from emma_jax import languages, manifest, paper_corpus

ARABIC = "هذا <b>نص</b> & \u202eمقلوب"
BOOKS = {"code.stack": 10**9, "book.gutenberg": 10**7, "paper.peS2o": 10**8}


def make() -> manifest.Manifest:
    """546 languages, 2,507 pairs and three collections."""
    paper = paper_corpus.paper()
    mono, pairs = (
        {name: entry.splits["train"].tokens for name, entry in entries.items()}
        for entries in (paper.languages, paper.pairs)
    )
    codes = list(mono)
    read = {name: tokens // 20 + 3 for name, tokens in (mono | pairs | BOOKS).items()}
    records = {"read": read | {"bzh_Latn": 4}}
    records["clean"] = {name: 1 + number * 7 // 10 for name, number in read.items()}
    records["deduplicate"] = {name: 1 + number * 4 // 10 for name, number in read.items()}
    rows = records["deduplicate"]
    return dataclasses.replace(
        paper,
        folder="nowhere",
        config_hash="0" * 64,
        languages={name: _entry(name, tokens, rows[name]) for name, tokens in sorted(mono.items())},
        pairs={name: _entry(name, tokens, rows[name]) for name, tokens in sorted(pairs.items())},
        collections={name: _entry(name, tokens, rows[name]) for name, tokens in sorted(BOOKS.items())},
        counts={
            "clean_pairs": {"identical_sides": 1_234_567, "kept": 16_290_000_000, "length_ratio": 40_000_000},
            "clean_texts": {"empty": 1, "kept": 825_000_000, "too_short": 90_000_000, "wrong_script": 7},
            "codes": {"kept": 17_000_000_000, "refused_code": 4_000},
            "deduplicate_pairs": {"duplicate": 450_000_000, "held_out_text": 12_000, "kept": 15_840_000_000},
            "normalise": {"repaired": 12_345, "tidied": 6_789_000, "unchanged": 990_000_000},
            "read": {"bad_file": 2, "bad_json": 17, "kept": 17_000_004_000},
        },
        refused_codes=tuple(
            dict(code=f"x-{name}", source="opus", reason="not a language code", records=1) for name in "abc"
        ),
        bad_files=(
            dict(file="mala/deu_Latn-eng_Latn/0007.jsonl.gz", reason="cut short after 1,024 bytes"),
            dict(file="opus/<script>alert(1)</script>.zip", reason="not a zip file"),
        ),
        licences={"books": "public domain", "mala": "cc-by-nc-sa-4.0", "opus": "various | see <opus.nlpl.eu>"},
        sources={
            "books": dict(reader="jsonl", kind="book", files_sha256="0" * 64),
            "mala": dict(reader="parquet", files_sha256="1" * 64),
            "opus": dict(reader="moses", files_sha256="2" * 64, languages="en-de"),
        },
        records=records,
        mapped_codes=tuple(
            dict(source=source, spelling=spelling, code=code, doubts=doubts, records=1 + read[code])
            for code in codes
            for source, spelling, doubts in (
                ("mala", code, ""),
                ("opus", code[:3], "stands for a group of languages" if code[0] == "z" else ""),
            )
        ),
        examples={
            "clean_texts/too_short": [[f"{n}.", "deu_Latn"] for n in range(9)] + [["", "swh_Latn"]],
            "clean_texts/wrong_script": [[ARABIC, "eng_Latn"], ["\x00\x1b[31m red", "eng_Latn"]],
            "clean_pairs/length_ratio": [
                [f"Ja, {n}." * 40, "Yes. " * n, "deu_Latn", "eng_Latn"] for n in range(9)
            ] + [[ARABIC, "<script>alert('no')</script>", "ara_Arab", "eng_Latn"]],
            "clean_pairs/identical_sides": [["四人の友だちと", "四人の友だちと", "jpn_Jpan", "zho_Hani"]],
            "deduplicate_pairs/duplicate": [["Ja", "Yes", "deu_Latn", "eng_Latn"]],
        },
    )  # fmt: skip


def _entry(name: str, tokens: int, rows: int) -> manifest.Entry:
    kind = "pairs" if "-" in name else "collections" if "." in name else "languages"
    classify = dict(languages=languages.language_class, pairs=languages.pair_class, collections=lambda tokens: "")[kind]
    folder = dict(languages="monolingual/", pairs="bilingual/", collections="")[kind] + name.replace(".", "/")
    held_out = rows // 20
    splits = {"train": (rows - held_out, tokens - tokens // 20), "validation": (held_out, tokens // 20)}
    return manifest.Entry(
        splits={
            split: manifest.Split((f"{folder}/{split}-00000-of-00001.parquet",), number, size, 6 * size)
            for split, (number, size) in splits.items()
        },
        resource_class=classify(tokens),
        sources={"books": rows} if kind == "collections" else {"mala": rows - rows // 3, "opus": rows // 3},
        name=languages.name(name) if kind == "languages" else "",
    )
