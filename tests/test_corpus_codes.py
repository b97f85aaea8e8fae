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
    ],
)  # fmt: skip
def test_spelling_maps_to_a_code(spelling, code):
    assert codes.normalise(spelling) == code


@pytest.mark.parametrize(
    ("spelling", "reason"),
    [
        ("qq", "not a language code"), ("templates", "not a language code"), ("", "not a language code"),
        ("C", "not a language code"), ("und", "no single language"), ("mul", "no single language"),
        ("zxx", "no single language"), ("en_Zsye", "script that is not known"),
    ],
)  # fmt: skip
def test_spelling_is_refused_with_its_reason(spelling, reason):
    with pytest.raises(codes.RefusedCode, match=reason):
        codes.normalise(spelling)
