import numpy as np
import pytest

from loadtest.pictures import Album
from services.codecs.images import content_hash, decode, probe


@pytest.fixture(scope="module")
def album() -> Album:
    return Album(range(20_000_000, 20_000_003))


def test_every_number_has_a_file_of_its_own(album: Album) -> None:
    hashes = {content_hash(album.new(number).content) for number in range(30)}
    assert len(hashes) == 30


def test_a_copy_shows_the_same_pixels(album: Album) -> None:
    original = album.originals[1]
    for number in (0, 12345678901234567):
        copy = original.copy(number)
        assert probe(copy.content) == probe(original.content)
        assert np.array_equal(decode(copy.content), decode(original.content))


def test_phrases_begin_with_what_is_there_and_suffice(album: Album) -> None:
    for picture in album.originals:
        assert len(set(picture.phrases)) == len(picture.phrases) >= 16
