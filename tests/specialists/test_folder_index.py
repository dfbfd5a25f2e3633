"""The index of a folder: whatever it holds, it leads to no other place, and damage is found."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_lite.specialists import load, save
from jaxopt_lite.specialists.base import digest
from jaxopt_lite.specialists.tensor_files import canonical
from tests.specialists.store_cases import assert_same, base_of, library_of


def forge(folder, change) -> None:
    """Changes the index, and makes its checksum fit again."""
    path = folder / "index.json"
    content = json.loads(path.read_bytes())
    change(content)
    del content["checksum"]
    path.write_text(json.dumps(content | {"checksum": digest({}, canonical(content))}))


@pytest.mark.parametrize(
    "place", ["../{}", "/tmp/{}", "..\\{}", "C:{}", "inside/{}", "./{}", "{}\0", "..", "index.json"]
)
def test_no_path_leads_out_of_the_folder(tmp_path, place):
    """Neither is a file read elsewhere, nor one deleted."""
    folder, library = tmp_path / "library", library_of("a")
    save(library, folder)
    (file,) = folder.glob("a-*")
    outside = tmp_path / file.name
    file.rename(outside)
    forge(folder, lambda content: content["specialists"][0].update(file=place.format(file.name)))
    for action in (
        lambda: load(folder, library.base),
        lambda: load(folder, library.base, errors="skip"),
        lambda: save(library_of("b"), folder, others="remove"),
    ):
        with pytest.raises(ValueError, match="index.json is not an index, or damaged.*plain name.*rebuild_index"):
            action()
    assert outside.exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(format="other"),
        lambda content: content.update(version="2"),
        lambda content: content.pop("base"),
        lambda content: content.pop("layout"),
        lambda content: content.update(base=1),
        lambda content: content.update(specialists={"a": 1}),
        lambda content: content.update(specialists=[{"name": "a"}]),
        lambda content: content["specialists"][0].update(id=1),
        lambda content: content["specialists"][0].update(more="x"),
    ],
)
def test_another_content_is_refused(tmp_path, change):
    save(library_of("a"), tmp_path)
    forge(tmp_path, change)
    with pytest.raises(ValueError, match="index.json is not an index, or damaged.*rebuild_index"):
        load(tmp_path, base_of())


@pytest.mark.parametrize(
    "layout",
    [1, {}, {"adapter": [], "tensors": {}}, {"adapter": [{"kind": "x"}], "tensors": {"profile/mean": ["x", [1]]}}],
)
def test_a_layout_that_is_none(tmp_path, layout):
    save(library_of(), tmp_path)
    forge(tmp_path, lambda content: content.update(layout=layout))
    with pytest.raises(ValueError, match="its layout .* is not one for this base"):
        load(tmp_path, base_of())


def test_a_specialist_twice(tmp_path):
    save(library_of("a"), tmp_path)
    forge(tmp_path, lambda content: content["specialists"].extend(content["specialists"]))
    with pytest.raises(ValueError, match="index.json is not an index.*twice"):
        load(tmp_path, base_of())


def test_another_base_or_tokenizer(tmp_path):
    save(library_of("a"), tmp_path)
    with pytest.raises(ValueError, match="index.json: made for the base 'base'"):
        load(tmp_path, base_of(seed=1), errors="skip")
    with pytest.raises(ValueError, match="index.json: made with the tokenizer none, and this base has"):
        load(tmp_path, base_of(tokenizer=True), errors="skip")


def test_an_index_that_is_a_link(tmp_path):
    library = library_of("a")
    save(library, tmp_path / "one")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "index.json").symlink_to(tmp_path / "one" / "index.json")
    with pytest.raises(ValueError, match="is a link or no file"):
        load(tmp_path / "two", library.base)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_no_byte_can_change_unnoticed(tmp_path_factory, data):
    """An index with another byte, or cut short, is refused, or says the same."""
    library, folder = library_of("a"), tmp_path_factory.mktemp("library")
    save(library, folder)
    path = folder / "index.json"
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place : place + 1] = data.draw(st.binary(max_size=2))
    path.write_bytes(bytes(content[: data.draw(st.integers(1, len(content)) | st.just(len(content)))]))
    try:
        found = load(folder, library.base)
    except ValueError as error:
        assert str(path) in str(error) and "rebuild_index" in str(error)
    else:
        assert_same(found, library)
