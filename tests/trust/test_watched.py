"""Files that others replace, well and badly."""

import os

import pytest

from router.errors import ConfigError
from router.trust.watched import Watched

GOOD, BETTER, BAD = "good", "better", "bad"


class Reader:
    """Reads two files that must agree."""

    def __init__(self, folder):
        self.files = (folder / "a", folder / "b", None)
        self.reads = 0
        self.write(GOOD, GOOD)

    def write(self, *texts):
        for file, text in zip(self.files, texts, strict=False):
            if text is not None:
                aside = file.with_suffix(".new")
                aside.write_text(text)
                aside.replace(file)

    def __call__(self, now):
        self.reads += 1
        try:
            texts = {file.read_text() for file in self.files if file is not None}
        except OSError as error:
            raise ConfigError("", [("x.a", f"gone: {error.strerror}")]) from error
        if len(texts) > 1 or BAD in texts:
            raise ConfigError("", [("x.a", "does not fit"), ("x.b", "nor that")])
        return texts.pop()


@pytest.fixture
def reader(tmp_path):
    return Reader(tmp_path)


@pytest.fixture
def watched(reader):
    return Watched("x", reader.files, reader, 0.0)


def test_what_is_wrong_at_the_beginning_is_raised(reader):
    reader.write(BAD, BAD)
    with pytest.raises(ConfigError):
        Watched("x", reader.files, reader, 0.0)


def test_files_that_stay_are_not_read_again(watched, reader):
    for _ in range(3):
        assert not watched.look(1.0)
    assert (reader.reads, watched.version, watched.value) == (1, 1, GOOD)


def test_a_replacement_is_in_force_when_it_is_complete(watched, reader):
    reader.write(BETTER, None)
    assert not watched.look(1.0)
    assert (watched.value, watched.version) == (GOOD, 1)
    assert watched.refused == "x.a: does not fit; x.b: nor that"
    reader.write(None, BETTER)
    assert watched.look(2.0)
    assert (watched.value, watched.version, watched.refused) == (BETTER, 2, "")
    assert not watched.look(3.0)


def test_what_is_gone_leaves_the_old_in_force(watched, reader):
    reader.files[0].unlink()
    assert not watched.look(1.0)
    assert watched.value == GOOD
    assert "gone" in watched.refused
    reader.write(GOOD, None)
    assert not watched.look(2.0)
    assert (watched.version, watched.refused) == (1, "")


def test_what_was_refused_is_looked_at_again_though_nothing_moved(watched, reader, monkeypatch):
    reader.write(BETTER, BETTER)
    monkeypatch.setattr(reader, "reads", 0)
    refuse = ConfigError("", [("x.a", "valid from tomorrow on")])
    answers = [refuse, refuse, BETTER]

    def read(now):
        said = answers.pop(0)
        if isinstance(said, ConfigError):
            raise said
        return said

    watched._read = read
    assert [watched.look(float(day)) for day in range(3)] == [False, False, True]


def test_the_same_again_is_no_change(watched, reader):
    reader.write(GOOD, GOOD)
    assert not watched.look(1.0)
    assert (reader.reads, watched.version) == (2, 1)


def test_a_link_to_another_folder_is_a_change(tmp_path):
    """As Kubernetes replaces what is mounted of a Secret."""
    for name, text in (("one", GOOD), ("two", BETTER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(text)
    link = tmp_path / "..data"
    link.symlink_to("one")
    (tmp_path / "a").symlink_to("..data/a")
    watched = Watched("x", [tmp_path / "a"], lambda now: (tmp_path / "a").read_text(), 0.0)
    aside = tmp_path / "..data_tmp"
    aside.symlink_to("two")
    os.replace(aside, link)  # noqa: PTH105 (of a link itself)
    assert watched.look(1.0)
    assert watched.value == BETTER
