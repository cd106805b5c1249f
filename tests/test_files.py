import pytest

from scmetaq._files import remove, write_whole


def test_a_file_takes_the_place_of_an_earlier_one_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    write_whole(path, lambda partial: partial.write_text("one"))

    def write(partial):
        assert path.read_text() == "one"
        partial.write_text("two")

    write_whole(path, write, "1-")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_and_what_was_killed_leaves_nothing(tmp_path):
    def write(partial):
        assert not partial.exists()
        partial.mkdir()
        raise OSError("odd")

    (tmp_path / "partial-folder").mkdir()
    with pytest.raises(OSError, match="odd"):
        write_whole(tmp_path / "folder", write)
    assert list(tmp_path.iterdir()) == []


def test_files_folders_and_nothing_are_removed(tmp_path):
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "file").touch()
    for name in ("folder", "file", "none"):
        remove(tmp_path / name)
    assert list(tmp_path.iterdir()) == []
