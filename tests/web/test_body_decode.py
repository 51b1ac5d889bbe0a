"""A compressed body is measured to the byte, a window at a time, however it came in parts."""

import gzip
import importlib
import zlib

import brotli
import pytest
import zstandard
from backports import zstd
from hypothesis import given, settings, strategies as st

from shipworthy.web.body_decode import WINDOW_BYTES, Undecodable, decoded, decoders


def raw(data):
    packing = zlib.compressobj(wbits=-15)
    return packing.compress(data) + packing.flush()


def only(*names):
    """How libraries are loaded where there are only these."""

    def load(name):
        if name in names:
            return importlib.import_module(name)
        raise ImportError(name)

    return decoders(load)


EACH = {
    "gzip": ("gzip", gzip.compress, decoders()),
    "deflate": ("deflate", zlib.compress, decoders()),
    "deflate without its container": ("deflate", raw, decoders()),
    "br": ("br", brotli.compress, decoders()),
    "zstd": ("zstd", zstd.compress, only("backports.zstd")),
    "zstd by zstandard": ("zstd", zstandard.compress, only("zstandard")),
}
each = pytest.mark.parametrize(("coding", "pack", "known"), EACH.values(), ids=EACH)


def measured(chain, body, size):
    """The windows of a body that comes in parts of this size."""
    return [
        window
        for at in range(0, len(body), size)
        for window in decoded(chain, body[at : at + size])
    ]


@each
@settings(max_examples=25)
@given(st.data())
def test_what_comes_out_is_what_was_packed(coding, pack, known, data):
    """Whatever the parts, and for what is made of several members or frames."""
    packed = data.draw(st.binary(max_size=3000))
    size = data.draw(st.sampled_from([1, 5, 4096]))
    times = data.draw(st.integers(1, 3)) if coding in ("gzip", "zstd") else 1
    decoder = known[coding]()
    assert b"".join(measured([decoder], pack(packed) * times, size)) == packed * times
    assert decoder.became_bytes == len(packed) * times


@each
@pytest.mark.parametrize("size", [100, 16 * 1024])
def test_no_more_than_a_few_windows_are_there_at_once(coding, pack, known, size):
    """Four megabytes of zeros come out of some bytes, in windows."""
    chain = [known[coding]()]
    windows = measured(chain, pack(bytes(4 * 1024 * 1024)), size)
    assert sum(map(len, windows)) == 4 * 1024 * 1024
    assert max(map(len, windows)) <= 2 * WINDOW_BYTES


@each
def test_of_nothing_comes_nothing(coding, pack, known):
    """An outer coding may yield an empty window."""
    decoder = known[coding]()
    assert b"".join(decoder.feed(b"")) == b""
    assert b"".join(measured([decoder], pack(b"some"), 4096)) == b"some"


@each
def test_what_is_packed_twice_is_measured_in_each_coding(coding, pack, known):
    """The outermost first; what comes out in between counts, too."""
    data = bytes(1024 * 1024)
    chain = [known["gzip"](), known[coding]()]
    assert b"".join(measured(chain, gzip.compress(pack(data)), 50)) == data
    assert [decoder.became_bytes for decoder in chain] == [len(pack(data)), len(data)]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_what_is_not_of_its_coding_yields_nothing(coding):
    """The application's decoder cannot do more with it."""
    for body in (b"\x1f\x8bxxxxxxxxxxxxxxxxx", b"hello, world" * 9, b"\xff" * 50):
        decoder = decoders()[coding]()
        measured([decoder], body, 7)
        assert decoder.became_bytes == 0


def test_what_follows_a_stream_is_not_of_it():
    """Zeros may stand between the members of gzip; of deflate there is one."""
    followed = decoders()["gzip"]()
    assert (
        b"".join(measured([followed], gzip.compress(b"a") + bytes(9) + gzip.compress(b"b"), 3))
        == b"ab"
    )
    decoder = decoders()["deflate"]()
    assert b"".join(measured([decoder], zlib.compress(b"a") * 2, 4096)) == b"a"


@pytest.mark.parametrize("library", ["backports.zstd", "zstandard"])
def test_zstd_that_needs_more_memory_than_a_coding_may_is_refused(library):
    """A decoder of the application might take 128 MiB and more for it (RFC 9659)."""
    known = only(library)
    large = zstd.compress(bytes(20 * 2**20), options={zstd.CompressionParameter.window_log: 27})
    with pytest.raises(Undecodable):
        measured([known["zstd"]()], large, 4096)
    with pytest.raises(Undecodable):
        measured([known["zstd"]()], b"no frame at all", 4096)


def test_codings_without_a_library_are_not_known():
    """The application cannot undo them either; brotli has a bound since 1.2 only."""
    assert set(only()) == {"gzip", "x-gzip", "deflate"}
    assert set(only("brotli", "zstandard")) == {"gzip", "x-gzip", "deflate", "br", "zstd"}

    class Old:
        class Decompressor:
            pass

    def load(name):
        if name == "brotli":
            return Old
        raise ImportError(name)

    assert "br" not in decoders(load)
