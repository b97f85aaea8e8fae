"""Every spelling of a language code either maps to a code or is refused with a reason."""

import pytest

from emma_jax.corpus import codes


@pytest.mark.parametrize(
    ("spelling", "code"),
    [
        # Regions and variants are one language.
        ("pt_BR", "por_Latn"), ("es_AR", "spa_Latn"), ("es_419", "spa_Latn"), ("hr_HR", "hrv_Latn"),
        ("ca@valencia", "cat_Latn"), ("de-AT", "deu_Latn"), ("de_DE.UTF-8@euro", "deu_Latn"),
        # Macro-languages where the source names them, members where it names those.
        ("ar", "ara_Arab"), ("fa", "fas_Arab"), ("ms", "msa_Latn"), ("no", "nor_Latn"), ("sw", "swa_Latn"),
        ("lv", "lav_Latn"), ("et", "est_Latn"), ("sh", "hbs_Latn"), ("swh", "swh_Latn"), ("arb", "arb_Arab"),
        ("pes", "pes_Arab"), ("nb", "nob_Latn"), ("kmr", "kmr_Latn"), ("tl", "tgl_Latn"),
        # Chinese is Hani, whatever its characters; Japanese is Jpan, also where it is spelt Japn.
        ("zh", "zho_Hani"), ("zh_Hant", "zho_Hani"), ("zh_TW.Big5", "zho_Hani"), ("cmn", "zho_Hani"),
        ("yue", "yue_Hani"), ("ja", "jpn_Jpan"), ("jpn_Japn", "jpn_Jpan"), ("ko", "kor_Hang"),
        # The script that is named, else the likely one.
        ("sr", "srp_Cyrl"), ("sr@latin", "srp_Latn"), ("sr@Latn", "srp_Latn"), ("sr_Latn", "srp_Latn"),
        ("uz", "uzb_Latn"), ("uz@Cyrl", "uzb_Cyrl"), ("be@latin", "bel_Latn"), ("ckb", "ckb_Arab"),
        ("azb", "azb_Arab"), ("pa", "pan_Guru"), ("mn", "mon_Cyrl"), ("cak", "cak_Latn"),
        # Retired and bibliographic codes.
        ("iw", "heb_Hebr"), ("mo", "ron_Latn"), ("ger", "deu_Latn"), ("swh_Latn", "swh_Latn"), ("en_GB", "eng_Latn"),
        ("scc", "srp_Cyrl"), ("mol", "ron_Latn"), ("ajp_Arab", "ajp_Arab"), ("eml_Latn", "eml_Latn"),
        # Spelt as in OPUS and as in FLORES.
        ("pt_br", "por_Latn"), ("zh_cn", "zho_Hani"), ("bs_BA", "bos_Latn"), ("en_XX", "eng_Latn"), ("JA", "jpn_Jpan"),
        ("zho_Hant", "zho_Hani"), ("eng_latn", "eng_Latn"), ("kmr_Latn", "kmr_Latn"), ("crh_Latn", "crh_Latn"),
        # A region may have a script of its own.
        ("sr_ME", "srp_Latn"), ("uz_AF", "uzb_Arab"), ("pa_PK", "pan_Arab"), ("sr_RS", "srp_Cyrl"),
        ("sr@ijekavianlatin", "srp_Latn"),
        # Extended tags are the member that they name.
        ("zh-yue", "yue_Hani"), ("zh-min-nan", "nan_Hani"), ("ar-arz", "arz_Arab"),
        # Groups that the MaLA corpora have as languages.
        ("bat_Latn", "bat_Latn"), ("fiu_Cyrl", "fiu_Cyrl"), ("nah", "nah_Latn"), ("bh", "bih_Deva"),
    ],
)  # fmt: skip
def test_spelling_maps_to_a_code(spelling, code):
    assert codes.normalise(spelling) == code


@pytest.mark.parametrize(
    ("spelling", "reason"),
    [
        ("qq", "not a language code"), ("templates", "not a language code"), ("", "not a language code"),
        ("C", "not a language code"), ("und", "no single language"), ("mul", "no single language"),
        ("zxx", "no single language"), ("en_Zsye", "script that is not known"), ("en@shaw", "not known .eng_Shaw"),
        ("zxx_Zyyy", "no single language"), ("qaa_Latn", "private use"), ("ze_en", "not a language code"),
        ("map-bms", "not a language code"), ("x-klingon", "not a language code"), ("дe", "not a language code"),
        ("a text in the wrong column, " * 1000, "not a language code"), ("en-" * 100, "not a language code"),
    ],
)  # fmt: skip
def test_spelling_is_refused_with_its_reason(spelling, reason):
    with pytest.raises(codes.RefusedCode, match=reason):
        codes.normalise(spelling)


@pytest.mark.parametrize(
    ("spelling", "members", "macro"),
    [
        ("ar", "arb_Arab", "ara_Arab"), ("fa", "pes_Arab", "fas_Arab"), ("sw", "swh_Latn", "swa_Latn"),
        ("lv", "lvs_Latn", "lav_Latn"), ("et", "ekk_Latn", "est_Latn"), ("ms", "zsm_Latn", "msa_Latn"),
        ("no", "nob_Latn", "nor_Latn"), ("zh", "cmn_Hani", "zho_Hani"), ("qu", "quy_Latn", "que_Latn"),
        ("ps", "pbt_Arab", "pus_Arab"), ("ff", "fuv_Latn", "ful_Latn"), ("mn", "khk_Cyrl", "mon_Cyrl"),
        ("cmn", "cmn_Hani", "zho_Hani"), ("yue_Hant", "yue_Hani", "zho_Hani"), ("nn", "nno_Latn", "nor_Latn"),
        ("id", "ind_Latn", "msa_Latn"), ("hr", "hrv_Latn", "hbs_Latn"), ("sr@latin", "srp_Latn", "hbs_Latn"),
        ("ajp", "apc_Arab", "ara_Arab"), ("sh", "hbs_Latn", "hbs_Latn"), ("de", "deu_Latn", "deu_Latn"),
        ("bho", "bho_Deva", "bho_Deva"), ("crh", "crh_Latn", "crh_Latn"), ("tw", "twi_Latn", "aka_Latn"),
    ],
)  # fmt: skip
def test_policies_choose_members_or_macro_languages(spelling, members, macro):
    assert codes.normalise(spelling, "members") == members
    assert codes.normalise(spelling, "macro") == macro


def test_groups_of_languages_are_refused_but_under_the_policy_of_mala():
    for policy in ("members", "macro"):
        with pytest.raises(codes.RefusedCode, match="group of languages"):
            codes.normalise("bat_Latn", policy)


def test_unknown_policy_names_the_nearest():
    with pytest.raises(ValueError, match="is members meant"):
        codes.normalise("de", "member")


@pytest.mark.parametrize("spelling", ["sr@latin", "srp_Cyrl", "zh-Hans", "jpn_Japn", "sr@Cyrl", "eng_Latn"])
def test_spelling_names_its_script(spelling):
    assert codes.is_script_given(spelling)


@pytest.mark.parametrize("spelling", ["sr", "sr_ME", "zh_TW.Big5", "ca@valencia", "de_DE@euro"])
def test_spelling_is_silent_on_its_script(spelling):
    assert not codes.is_script_given(spelling)


@pytest.mark.parametrize(
    ("spelling", "doubt"),
    [
        ("bat_Latn", "group of languages"), ("ajp", "retired from ISO 639-3: apc now"), ("eml", "Split into"),
        ("cmn", "cmn taken as zho"), ("jpn_Japn", "Japn taken as Jpan"), ("zho_Hant", "Hant taken as Hani"),
        ("rus_Latn", "not usually written in Latn"), ("zh_TW", "region TW"), ("pt_BR", "region BR"),
        ("sr_ME", "region ME"), ("ca@valencia", "valencia dropped"), ("de-1996", "variant 1996 dropped"),
        ("en-x-pirate", "private x-pirate dropped"),
    ],
)  # fmt: skip
def test_doubts_are_named(spelling, doubt):
    assert doubt in codes.doubts(spelling)


@pytest.mark.parametrize("spelling", ["de", "de_DE", "hi_IN", "uz@Cyrl", "srp_Latn", "jpn_Jpan", "ind_Latn"])
def test_usual_spellings_leave_no_doubt(spelling):
    assert codes.doubts(spelling) == ""


def test_macro_language_without_a_principal_member_is_doubtful():
    assert codes.doubts("sh", "members") == "a macro-language without a principal member"
    assert codes.doubts("sh") == ""


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("en-de", ("en", "de")), ("eng-fra", ("eng", "fra")), ("eng_Latn-deu_Latn", ("eng_Latn", "deu_Latn")),
        ("en_GB-pt_br", ("en_GB", "pt_br")), ("en-zh-Hant", ("en", "zh-Hant")), ("de-AT-it", ("de-AT", "it")),
        # Two spellings, although one will be refused.
        ("ze_en-zh", ("ze_en", "zh")), ("en-zxx", ("en", "zxx")), ("sr@latin-en", ("sr@latin", "en")),
    ],
)  # fmt: skip
def test_name_of_a_pair_has_two_sides(name, sides):
    assert codes.pair_of(name) == sides


@pytest.mark.parametrize("name", ["", "en", "en-", "-de", "readme-first", "en-de-fr", "pt-br-en", "a-b", "en-" * 1000])
def test_other_names_are_of_no_pair(name):
    with pytest.raises(ValueError, match="is not the name of a pair"):
        codes.pair_of(name)
