"""A corpus of a few sentences in many scripts, written as `emma_jax.corpus` would write it."""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

from emma_jax import languages, manifest

SENTENCES = {
    "amh_Ethi": "የሰው ልጅ ሁሉ ሲወለድ ነጻና በክብርና በመብትም እኩልነት ያለው ነው",
    "ara_Arab": "يولد جميع الناس أحرارًا ومتساوين في الكرامة والحقوق",
    "ben_Beng": "সমস্ত মানুষ স্বাধীনভাবে সমান মর্যাদা এবং অধিকার নিয়ে জন্মগ্রহণ করে",
    "deu_Latn": "Alle Menschen sind frei und gleich an Würde und Rechten geboren",
    "ell_Grek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια",
    "eng_Latn": "All human beings are born free and equal in dignity and rights",
    "heb_Hebr": "כל בני האדם נולדו בני חורין ושווים בערכם ובזכויותיהם",
    "hin_Deva": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता",
    "jpn_Jpan": "すべての人間は、生まれながらにして自由であり、尊厳と権利とについて平等である",
    "kat_Geor": "ყველა ადამიანი იბადება თავისუფალი და თანასწორი თავისი ღირსებითა",
    "kor_Hang": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다",
    "rus_Cyrl": "Все люди рождаются свободными и равными в своём достоинстве и правах",
    "swh_Latn": "Watu wote wamezaliwa huru, hadhi na haki zao ni sawa",
    "tam_Taml": "மனிதப் பிறவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்",
    "tha_Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ",
    "zho_Hani": "人人生而自由，在尊严和权利上一律平等",
}


def sentences(code: str, number: int) -> list[str]:
    """Different sentences of a language, of different lengths."""
    words = SENTENCES[code].split()
    turned = [words[i % len(words) :] + words[: i % len(words)] for i in range(number)]
    return [f"{' '.join(line * (1 + i % 3))} {i}" for i, line in enumerate(turned)]


def write(folder: pathlib.Path, texts: dict, pairs: dict | None = None, rows_per_file: int = 10**9):
    """The manifest of a corpus: `texts` is code -> split -> texts, `pairs` is pair -> split -> (sources, targets)."""
    entries: dict[str, dict] = {"monolingual": {}, "bilingual": {}}
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
    written = manifest.Manifest(str(folder), 1, 0, "", entries["monolingual"], entries["bilingual"], {}, (), (), {})
    manifest.write(written)
    return manifest.load(str(folder))


def standard(folder: pathlib.Path, rows: int = 40):
    """All languages and three pairs, with `rows` rows in training and five in validation."""
    split = {"train": slice(0, rows), "validation": slice(rows, rows + 5)}
    texts = {code: {name: sentences(code, rows + 5)[part] for name, part in split.items()} for code in SENTENCES}
    names = ("eng_Latn-swh_Latn", "deu_Latn-eng_Latn", "rus_Cyrl-zho_Hani")
    pairs = {pair: {name: tuple(texts[code][name] for code in pair.split("-")) for name in split} for pair in names}
    return write(folder, texts, pairs)


def _entry(folder, place: str, splits: dict, rows_per_file: int, code: str = "") -> manifest.Entry:
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
    return manifest.Entry(described, "low", {"test": 1}, languages.name(code) if code else "")
