"""Codes, names and classes agree with the published lists."""

import collections

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from emma_jax import languages

# Codes of the published corpora: macro-languages beside their members, unusual scripts, languages without CLDR data.
PUBLISHED = [
    "ara_Arab", "arb_Arab", "aze_Latn", "azj_Latn", "bos_Latn", "ckb_Arab", "eng_Latn", "est_Latn", "ekk_Latn",
    "fas_Arab", "pes_Arab", "prs_Arab", "fil_Latn", "tgl_Latn", "hbs_Latn", "hbs_Cyrl", "hrv_Latn", "srp_Cyrl",
    "srp_Latn", "jpn_Jpan", "kor_Hang", "lav_Latn", "lvs_Latn", "mon_Cyrl", "khk_Cyrl", "mon_Latn", "msa_Latn",
    "zsm_Latn", "nor_Latn", "nob_Latn", "nno_Latn", "swa_Latn", "swh_Latn", "zho_Hani", "yue_Hani", "lzh_Hani",
    "sat_Olck", "nqo_Nkoo", "tzm_Tfng", "div_Thaa", "mni_Mtei", "mni_Beng", "cre_Cans", "chr_Cher", "syr_Syrc",
    "bod_Tibt", "azb_Arab", "cak_Latn", "grc_Grek", "got_Goth", "ang_Runr", "ang_Latn",
]  # fmt: skip


def test_published_codes_are_codes_with_names_of_their_own():
    names = collections.Counter(languages.name(languages.check(code)) for code in PUBLISHED)
    assert [name for name, count in names.items() if count > 1 or "Unknown" in name] == []


@pytest.mark.parametrize("code", ["eng", "eng-Latn", "eng_latn", "ENG_Latn", "en_Latn", "eng_Latn_US", "", "eng_Latn "])
def test_other_spellings_are_no_codes(code):
    with pytest.raises(ValueError, match="not a language code of the form xxx_Ssss"):
        languages.check(code)


@pytest.mark.parametrize("code", ["xxx_Latn", "eng_Xxxx", "jpn_Japn"])
def test_unknown_languages_and_scripts_are_no_codes(code):
    with pytest.raises(ValueError, match="language and a script that are known"):
        languages.check(code)


def test_wrong_code_names_the_nearest():
    with pytest.raises(ValueError, match="is fra_Latn meant"):
        languages.check("frr_Latin", known=["deu_Latn", "fra_Latn", "zho_Hani"])
    assert languages.nearest("qqqqqqq", ["deu_Latn"]) == ""


def test_members_are_not_their_macro_language():
    assert languages.name("swh_Latn") != languages.name("swa_Latn")
    assert languages.language_tag("swh").to_alpha3() == "swh"


def letters_of(script):
    return "[" + "".join(rf"\p{{{name}}}" for name in languages.SCRIPTS[script].split()) + "]"


def test_every_script_is_one_that_arrow_can_match():
    letters = {
        "Latn": "é", "Cyrl": "ж", "Hani": "水", "Jpan": "か", "Hang": "한", "Arab": "ب", "Deva": "कि", "Olck": "ᱥ",
        "Thaa": "ދ", "Tibt": "བ", "Mymr": "မ", "Ethi": "አ", "Nkoo": "ߒ", "Tfng": "ⵜ",
    }  # fmt: skip
    for script in languages.SCRIPTS:
        found = pc.match_substring_regex(pa.array(list(letters.values())), letters_of(script))
        if script in letters:
            assert letters[script] in pa.array(list(letters.values())).filter(found).to_pylist()
    assert not pc.match_substring_regex(pa.array(["ж"]), letters_of("Latn"))[0].as_py()


def test_classes_begin_where_the_published_tables_say():
    assert languages.pair_class(10**10) == "very high"
    assert languages.pair_class(10**10 - 1) == "high"
    assert languages.pair_class(5 * 10**8) == "medium-high"
    assert languages.pair_class(10**6 - 1) == "very low"
    assert [languages.language_class(10**n) for n in range(4, 10)] == [
        "very low", "low", "medium-low", "medium", "medium-high", "high",
    ]  # fmt: skip


def test_retired_languages_of_the_published_corpora_are_codes_with_names():
    assert languages.name(languages.check("eml_Latn")) == "Emiliano-Romagnolo"
    assert languages.name(languages.check("ajp_Arab")) == "South Levantine Arabic"


@pytest.mark.parametrize(
    ("language", "script"),
    [
        ("abq", "Cyrl"), ("acm", "Arab"), ("ajp", "Arab"), ("brb", "Khmr"), ("grc", "Grek"), ("hyw", "Armn"),
        ("prs", "Arab"), ("ksw", "Mymr"), ("xal", "Cyrl"), ("yea", "Mlym"), ("bih", "Deva"), ("hbs", "Latn"),
        ("lzh", "Hani"), ("jpn", "Jpan"), ("quy", "Latn"), ("arc", "Syrc"),
    ],
)  # fmt: skip
def test_likely_script_is_known_of_small_languages(language, script):
    assert languages.likely_script(language) == script


def test_likely_script_is_that_of_the_region():
    assert languages.likely_script("srp", "ME") == "Latn"
    assert languages.likely_script("srp", "XX") == languages.likely_script("srp") == "Cyrl"


def test_languages_are_known_by_all_scripts_but_romanisations():
    assert {"Latn", "Cyrl", "Arab"} <= languages.scripts("uzb")
    assert languages.scripts("eng") == languages.scripts("swh") == {"Latn"}
    assert languages.scripts("hin") == {"Deva"}
    assert "Latn" not in languages.scripts("zho")
    assert "Hani" not in languages.scripts("vie")
