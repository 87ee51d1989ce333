"""Decoded images on disk: what was decoded, or decoded again; never something else."""

import os
import pickle
import zipfile

import numpy as np
import pytest

from comdml_flwr.learning.data.pixel_cache import cached_pixels, listing_digest

PIXELS = np.random.default_rng(1).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)


class Decoder:
    """Counts how often it decodes."""

    def __init__(self, pixels=PIXELS):
        self.pixels, self.count = pixels, 0

    def __call__(self):
        self.count += 1
        return self.pixels


def test_what_was_decoded_is_read_back_without_decoding(tmp_path):
    decode, path = Decoder(), tmp_path / "pixels.npz"
    first = cached_pixels(path, "a listing", decode)
    again = cached_pixels(path, "a listing", decode)
    assert decode.count == 1
    assert np.array_equal(first, again)
    assert again.dtype == np.uint8
    assert [file.name for file in tmp_path.iterdir()] == ["pixels.npz"]
    assert path.stat().st_mode & 0o444 == 0o444, "others may read it"


def test_another_listing_is_decoded_and_replaces_the_file(tmp_path):
    path, new = tmp_path / "pixels.npz", Decoder(PIXELS[:2])
    cached_pixels(path, "old", Decoder())
    assert np.array_equal(cached_pixels(path, "new", new), PIXELS[:2])
    assert np.array_equal(cached_pixels(path, "new", new), PIXELS[:2])
    assert new.count == 1


def test_every_spoilt_byte_is_noticed_or_does_not_matter(tmp_path):
    path = tmp_path / "pixels.npz"
    cached_pixels(path, "a listing", Decoder())
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        assert np.array_equal(cached_pixels(path, "a listing", Decoder()), PIXELS), place


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_a_torn_file_is_decoded_again_and_mended(tmp_path, share):
    path, decode = tmp_path / "pixels.npz", Decoder()
    cached_pixels(path, "a listing", Decoder())
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * share)])
    for _ in range(2):
        assert np.array_equal(cached_pixels(path, "a listing", decode), PIXELS)
    assert decode.count == 1


class Trap:
    """Says so when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


def test_a_pickle_in_its_place_is_not_opened(tmp_path):
    path = tmp_path / "pixels.npz"
    listing = np.empty((), dtype=object)
    listing[()] = Trap()
    np.savez(path, listing=listing, pixels=PIXELS)
    assert np.array_equal(cached_pixels(path, "a listing", Decoder()), PIXELS)
    path.write_bytes(pickle.dumps(Trap()))
    assert np.array_equal(cached_pixels(path, "a listing", Decoder()), PIXELS)
    assert not Trap.sprung


def test_an_archive_of_something_else_is_replaced(tmp_path):
    path = tmp_path / "pixels.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("hello.txt", "hello")
    assert np.array_equal(cached_pixels(path, "a listing", Decoder()), PIXELS)


def test_where_nothing_can_be_written_the_pixels_are_there_all_the_same(tmp_path):
    path = tmp_path / "pixels.npz"
    path.mkdir()
    with pytest.warns(UserWarning, match=r"decoded again in every process: .*pixels\.npz"):
        assert np.array_equal(cached_pixels(path, "a listing", Decoder()), PIXELS)
    assert [file.name for file in tmp_path.iterdir()] == ["pixels.npz"], "no partial file is left"


def test_a_failed_decode_leaves_nothing_behind(tmp_path):
    def fail():
        raise ValueError("no image")

    with pytest.raises(ValueError, match="no image"):
        cached_pixels(tmp_path / "pixels.npz", "a listing", fail)
    assert list(tmp_path.iterdir()) == []


def test_the_listing_tells_names_sizes_times_and_order_apart(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for path in (one, two):
        path.write_bytes(b"same")
        os.utime(path, ns=(1, 1))
    digests = [listing_digest(tmp_path, [one, two]), listing_digest(tmp_path, [two, one])]
    digests += [listing_digest(tmp_path, [one])]
    os.utime(one, ns=(1, 2))
    digests.append(listing_digest(tmp_path, [one, two]))
    one.write_bytes(b"longer")
    os.utime(one, ns=(1, 1))
    digests.append(listing_digest(tmp_path, [one, two]))
    assert len(set(digests)) == 5
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert listing_digest(moved, [moved / "one", moved / "two"]) == digests[-1]
