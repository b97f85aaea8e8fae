"""A corpus of a few sentences in many scripts, written as `emma_jax.corpus` would write it."""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

from emma_jax import languages, manifest

SENTENCES = {
    "amh_Ethi": "ነገ ከአራት ጓደኞች ጋር ሰማያዊውን ጀልባ በጸጥተኛው ሐይቅ ላይ እንነዳለን",
    "ara_Arab": "غدا سنعبر البحيرة الهادئة بالقارب الأزرق مع أربعة أصدقاء",
    "ben_Beng": "আগামীকাল আমরা চারজন বন্ধুর সাথে নীল নৌকায় শান্ত হ্রদ পার হব",
    "deu_Latn": "Morgen fahren wir mit vier Freunden im blauen Boot über den stillen See",
    "ell_Grek": "Αύριο θα διασχίσουμε την ήσυχη λίμνη με τη μπλε βάρκα και τέσσερις φίλους",
    "eng_Latn": "Tomorrow we will cross the quiet lake in the blue boat with four friends",
    "heb_Hebr": "מחר נחצה את האגם השקט בסירה הכחולה עם ארבעה חברים",
    "hin_Deva": "कल हम चार दोस्तों के साथ नीली नाव में शांत झील पार करेंगे",
    "jpn_Jpan": "明日、私たちは四人の友だちと青いボートで静かな湖を渡ります",
    "kat_Geor": "ხვალ ჩვენ ოთხ მეგობართან ერთად ლურჯი ნავით გადავცურავთ წყნარ ტბას",
    "kor_Hang": "내일 우리는 친구 네 명과 함께 파란 배를 타고 고요한 호수를 건넌다",
    "rus_Cyrl": "Завтра мы с четырьмя друзьями переплывём тихое озеро на синей лодке",
    "swh_Latn": "Kesho tutavuka ziwa tulivu kwa mashua ya bluu pamoja na marafiki wanne",
    "tam_Taml": "நாளை நாங்கள் நான்கு நண்பர்களுடன் நீலப் படகில் அமைதியான ஏரியைக் கடப்போம்",
    "tha_Thai": "พรุ่งนี้เราจะข้ามทะเลสาบที่เงียบสงบด้วยเรือสีน้ำเงินกับเพื่อนสี่คน",
    "zho_Hani": "明天我们和四个朋友乘蓝色的小船穿过安静的湖",
}


def sentences(code: str, number: int) -> list[str]:
    """Different sentences of a language, of different lengths."""
    words = SENTENCES[code].split()
    turned = [words[i % len(words) :] + words[: i % len(words)] for i in range(number)]
    return [f"{' '.join(line * (1 + i % 3))} {i}" for i, line in enumerate(turned)]


def write(
    folder: pathlib.Path,
    texts: dict,
    pairs: dict | None = None,
    rows_per_file: int = 10**9,
    collections: dict | None = None,
):
    """The manifest of a corpus: `texts` is code -> split -> texts, `pairs` is pair -> split -> (sources, targets).

    `collections` is name -> split -> texts, in no language that is known.
    """
    entries: dict[str, dict] = {"monolingual": {}, "bilingual": {}, "collections": {}}
    for name, splits in texts.items():
        columns = {split: {"text": rows, "lang": [name] * len(rows)} for split, rows in splits.items()}
        entries["monolingual"][name] = _entry(folder, f"monolingual/{name}", columns, rows_per_file, name)
    for name, splits in (pairs or {}).items():
        source, target = name.split("-")
        columns = {
            split: {
                "src_text": rows[0],
                "tgt_text": rows[1],
                "src_lang": [source] * len(rows[0]),
                "tgt_lang": [target] * len(rows[0]),
            }
            for split, rows in splits.items()
        }
        entries["bilingual"][name] = _entry(folder, f"bilingual/{name}", columns, rows_per_file)
    for name, splits in (collections or {}).items():
        columns = {split: {"text": rows, "lang": [""] * len(rows)} for split, rows in splits.items()}
        entries["collections"][name] = _entry(folder, name.replace(".", "/"), columns, rows_per_file, classified="")
    mono, pairs = entries["monolingual"], entries["bilingual"]
    written = manifest.Manifest(
        str(folder), manifest.VERSION, 0, "", mono, pairs, {}, (), (), {}, collections=entries["collections"]
    )
    manifest.write(written)
    return manifest.load(str(folder))


def standard(folder: pathlib.Path, rows: int = 40):
    """All languages and three pairs, with `rows` rows in training and five in validation."""
    split = {"train": slice(0, rows), "validation": slice(rows, rows + 5)}
    texts = {code: {name: sentences(code, rows + 5)[part] for name, part in split.items()} for code in SENTENCES}
    names = ("eng_Latn-swh_Latn", "deu_Latn-eng_Latn", "rus_Cyrl-zho_Hani")
    pairs = {pair: {name: tuple(texts[code][name] for code in pair.split("-")) for name in split} for pair in names}
    return write(folder, texts, pairs)


def _entry(
    folder, place: str, splits: dict, rows_per_file: int, code: str = "", classified: str = "low"
) -> manifest.Entry:
    described = {}
    for split, columns in splits.items():
        table = pa.table(columns, schema=pa.schema([(name, pa.string()) for name in columns]))
        number = max(1, -(-table.num_rows // rows_per_file))
        files = tuple(f"{place}/{split}-{i:05}-of-{number:05}.parquet" for i in range(number))
        for i, file in enumerate(files):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table.slice(i * rows_per_file, rows_per_file), folder / file, compression="zstd")
        texts = [text for name, column in columns.items() if name.endswith("text") for text in column]
        described[split] = manifest.Split(
            files, table.num_rows, sum(len(t.split()) for t in texts), sum(len(t.encode()) for t in texts)
        )
    return manifest.Entry(described, classified, {"test": 1}, languages.name(code) if code else "")
