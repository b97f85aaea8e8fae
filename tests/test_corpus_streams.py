"""Whatever is in a file: all of it, or what stood before the damage and then its name, in bounded memory."""

import bz2
import errno
import gzip
import io
import lzma
import random
import tracemalloc
import zipfile

import pyarrow as pa
import pytest
import zstandard

from emma_jax.corpus import source, streams


def lz4(data):
    with pa.CompressedOutputStream(out := pa.BufferOutputStream(), "lz4") as stream:
        stream.write(data)
    return out.getvalue().to_pybytes()


def zst(data):
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


CODECS = {".gz": gzip.compress, ".zst": zst, ".bz2": bz2.compress, ".xz": lzma.compress, ".lz4": lz4}
TEXT = "".join(f"{number} {random.Random(number).getrandbits(99):x}\n" for number in range(20000)).encode()
every_codec = pytest.mark.parametrize("suffix", CODECS)


def put(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    return source.File(name, str(tmp_path / name))


def read_all(file, num_bytes=1 << 16):
    """What was read of a file, and the reason why no more was."""
    pieces = []
    try:
        with streams.open_stream(file) as stream:
            while piece := stream.read(num_bytes):
                assert len(piece) <= num_bytes
                pieces.append(piece)
    except source.BadFile as error:
        return b"".join(pieces), str(error)
    return b"".join(pieces), None


@every_codec
def test_whole_files_and_files_of_several_members(tmp_path, suffix):
    compress = CODECS[suffix]
    assert read_all(put(tmp_path, f"a.txt{suffix}", compress(TEXT))) == (TEXT, None)
    assert read_all(put(tmp_path, f"b.txt{suffix}", compress(b""))) == (b"", None)
    several = put(tmp_path, f"c.txt{suffix}", compress(TEXT) + compress(b"") + compress(TEXT))
    for num_bytes in (777, 1 << 20):
        assert read_all(several, num_bytes) == (TEXT + TEXT, None)


def test_zeros_between_members_of_xz(tmp_path):
    content = lzma.compress(TEXT) + bytes(1 << 17) + lzma.compress(TEXT) + bytes(4)
    assert read_all(put(tmp_path, "a.xz", content)) == (TEXT + TEXT, None)


def test_plain_and_empty_files(tmp_path):
    assert read_all(put(tmp_path, "a.txt", TEXT)) == (TEXT, None)
    assert read_all(put(tmp_path, "a.txt", b"")) == (b"", None)


@every_codec
def test_cut_anywhere_is_named_after_what_stood_before(tmp_path, suffix):
    whole = CODECS[suffix](TEXT)
    two = whole + whole
    for content in (whole, two):
        for length in (len(content) - 1, len(content) - 4, len(content) - 9, len(content) * 9 // 10, 20, 5, 1):
            text, reason = read_all(put(tmp_path, f"a{suffix}", content[:length]))
            assert reason == "is cut short", length
            assert (TEXT + TEXT).startswith(text)
            # A block of bzip2 is 900 kB, a frame of zstd here one of 128 kB and more.
            if suffix in (".gz", ".xz") and length > 1000:
                assert len(text) > 0.8 * len(TEXT) * length / len(whole)
    assert read_all(put(tmp_path, f"a{suffix}", b"")) == (b"", f"is empty, and a {suffix} file never is")


@every_codec
def test_corrupted_is_named(tmp_path, suffix):
    whole = CODECS[suffix](TEXT)
    turned = bytearray(whole)
    turned[len(whole) // 2] ^= 255
    second = bytearray(whole)
    second[0] ^= 255
    if suffix == ".lz4":  # Arrow writes it without checksums, so that only a header can be seen to be wrong
        turned = second
    for content in (bytes(turned), TEXT, whole + bytes(second)):
        _, reason = read_all(put(tmp_path, f"a{suffix}", content))
        assert reason and reason.startswith(("is damaged: ", "is cut short")), content[:20]


@every_codec
def test_bomb_ends(tmp_path, suffix):
    content = CODECS[suffix](bytes(80 << 20))
    tracemalloc.start()
    text, reason = read_all(put(tmp_path, f"a{suffix}", content))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reason == "expands to more than 200 times its size"
    assert len(text) <= max(streams.MIN_BOMB_BYTES, 200 * len(content))
    assert peak < 3 * streams.MIN_BOMB_BYTES  # what this test keeps of it included


def test_guard_of_a_member_of_a_zip(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("a.txt", TEXT)
    content = bytearray((tmp_path / "a.zip").read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = archive.getinfo("a.txt").compress_size
        stream = streams.guard(archive.open("a.txt"), size)
        assert b"".join(iter(lambda: stream.read(1 << 20), b"")) == TEXT
    content[len(content) // 2] ^= 255
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        stream = streams.guard(archive.open("a.txt"), size)
        with pytest.raises(source.BadFile, match="is damaged"):
            while stream.read(1 << 20):
                pass


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "the disk"), OSError("Forbidden"), ConnectionError("gone")])
@pytest.mark.parametrize("suffix", [".gz", ".xz", ""])
def test_failing_disk_is_no_bad_file(tmp_path, suffix, fault, monkeypatch):
    class Failing(io.BytesIO):
        def read(self, num_bytes=-1):
            raise fault

    file = put(tmp_path, f"a{suffix}", b"abc")
    monkeypatch.setattr(source.File, "open", lambda self: Failing())
    with pytest.raises(OSError, match=str(fault.args[-1])) as raised, streams.open_stream(file) as stream:
        stream.read(100)
    assert raised.value is fault


def test_blocks_and_lines_are_the_text(monkeypatch):
    monkeypatch.setattr(streams, "BLOCK_BYTES", 1000)
    blocks = list(streams.line_blocks(io.BytesIO(TEXT)))
    assert len(blocks) > 100 and all(block.endswith(b"\n") and not left_out for block, left_out in blocks)
    assert b"".join(block for block, _ in blocks) == TEXT
    for text in (TEXT, TEXT.replace(b"\n", b"\r\n"), TEXT[:-1]):
        assert [line for found in streams.lines(io.BytesIO(text)) for line in found] == TEXT.splitlines()
    assert list(streams.lines(io.BytesIO(b""))) == []
    assert list(streams.lines(io.BytesIO(b"\n\na"))) == [[b"", b""], [b"a"]]


@pytest.mark.parametrize("block_bytes", [3, 7, 64])
def test_long_lines_are_left_out_and_counted_where_they_stand(monkeypatch, block_bytes):
    monkeypatch.setattr(streams, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(streams, "MAX_RECORD_BYTES", 70)
    long, longest = b"x" * 71, b"x" * 70
    given = [b"a", long, b"b", longest, long, long * 9, b"", b"c"]
    for end in (b"", b"\n"):
        text = b"\n".join(given) + end
        found = [line for part in streams.lines(io.BytesIO(text)) for line in part]
        assert found == [line if len(line) <= 70 else None for line in given]
        blocks = list(streams.line_blocks(io.BytesIO(text)))
        assert b"".join(block for block, _ in blocks) == b"\n".join([b"a", b"b", longest, b"", b"c"]) + end
        assert sum(left_out for _, left_out in blocks) == 3
        upto_b = next(number for number, (block, _) in enumerate(blocks) if b"b" in block)
        assert sum(left_out for _, left_out in blocks[: upto_b + 1]) == 1
    assert list(streams.line_blocks(io.BytesIO(long))) == [(b"", 1)]


def test_line_of_100_mb_takes_bounded_memory(tmp_path):
    # A file with holes: nothing of it is on the disk.
    with (tmp_path / "a.txt").open("wb") as out:
        out.write(b"before\n")
        out.truncate(100 << 20)
        out.seek(0, io.SEEK_END)
        out.write(b"\nafter\n")
    file = source.File("a.txt", str(tmp_path / "a.txt"))
    tracemalloc.start()
    with streams.open_stream(file) as stream:
        assert [line for found in streams.lines(stream) for line in found] == [b"before", None, b"after"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * source.MAX_RECORD_BYTES


def test_lines_before_the_damage_are_given_and_the_cut_one_is_not(tmp_path):
    file = put(tmp_path, "a.gz", gzip.compress(TEXT)[:-20])
    found = []
    with pytest.raises(source.BadFile, match="is cut short"), streams.open_stream(file) as stream:
        for block, _ in streams.line_blocks(stream):
            found.append(block)
    text = b"".join(found)
    assert text.endswith(b"\n") and TEXT.startswith(text) and len(text) > 0.9 * len(TEXT)


def test_byte_order_marks():
    assert list(streams.lines(io.BytesIO("\ufeffé\n\ufeffb".encode()))) == [["é".encode()], ["\ufeffb".encode()]]
    for encoding in ("utf-16", "utf-16-be"):
        text = "\ufeffab\ncd".encode(encoding)
        with pytest.raises(source.BadFile, match="is in UTF-16"):
            list(streams.lines(io.BytesIO(text)))


def test_text_of_lines():
    found = ["日本".encode(), None, b"a\0b", "ü".encode("latin-1"), b"", b"\xed\xa0\x80", b"\xc0\x80"]
    text = streams.as_text(found)
    assert text.type == pa.string()
    assert text.to_pylist() == ["日本", None, "a\0b", None, "", None, None]
    assert streams.as_text([b"a", None]).to_pylist() == ["a", None]
