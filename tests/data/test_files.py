import pytest

from jaxcodec.data.files import list_images, write_bytes
from jaxcodec.errors import BadImage, BadOption, OutputExists


def test_an_existing_file_is_only_replaced_by_force(tmp_path):
    path = tmp_path / "a.jxc"
    write_bytes(path, b"old")
    with pytest.raises(OutputExists, match="--force"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    write_bytes(path, b"new", force=True)
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_a_bad_option_and_leaves_nothing(tmp_path):
    with pytest.raises(BadOption, match="no folder"):
        write_bytes(tmp_path / "none" / "a.jxc", b"x")
    with pytest.raises(BadOption, match="is a folder"):
        write_bytes(tmp_path, b"x", force=True)
    with pytest.raises(BadOption, match="cannot be written"):
        write_bytes(tmp_path / ("n" * 300), b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_device_is_written_without_force():
    write_bytes("/dev/null", b"x")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_bytes(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_a_folder_or_a_pattern_lists_its_pictures_in_order(tmp_path):
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "[c].png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "d.png").write_bytes(b"x")
    assert [path.name for path in list_images(tmp_path)] == ["[c].png", "a.JPG", "b.png"]
    assert [path.name for path in list_images(f"{tmp_path}/**/*.png")] == ["[c].png", "b.png", "d.png"]
    assert list_images(tmp_path / "[c].png") == [tmp_path / "[c].png"]
    with pytest.raises(BadImage, match="no pictures"):
        list_images(tmp_path / "*.gif")
