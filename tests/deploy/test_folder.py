"""A folder of generated files: nobody's work is lost, and ended half-way it goes on."""

import json
import os
from pathlib import Path

import pytest

from shipworthy.deploy import LIST_NAME, ChangedByHand, FolderUnusable, write_folder

_FILES = {"a.yml": "a\n", "rules/b.yml": "b\n"}


def _content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != LIST_NAME
    }


def test_it_holds_what_it_is_to_hold_and_the_second_time_nothing_changes(tmp_path: Path) -> None:
    """The second run writes no byte, not even of its list."""
    folder = tmp_path / "new" / "monitoring"
    first = write_folder(folder, _FILES)
    assert (first.added, first.changed, first.removed) == (("a.yml", "rules/b.yml"), (), ())
    assert _content(folder) == _FILES
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again = write_folder(folder, _FILES)
    assert (again.unchanged, again.anything) == (("a.yml", "rules/b.yml"), False)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_it_says_what_changed_and_takes_away_what_is_not_written_any_more(tmp_path: Path) -> None:
    """A file of an alert that is gone would go on firing."""
    write_folder(tmp_path, _FILES)
    written = write_folder(tmp_path, {"a.yml": "other\n", "c.yml": "c\n"})
    assert (written.added, written.changed, written.removed) == (
        ("c.yml",),
        ("a.yml",),
        ("rules/b.yml",),
    )
    assert _content(tmp_path) == {"a.yml": "other\n", "c.yml": "c\n"}


def test_what_was_changed_by_hand_is_kept_unless_forced(tmp_path: Path) -> None:
    """Nothing at all is written then, and the files are named."""
    write_folder(tmp_path, _FILES)
    (tmp_path / "a.yml").write_text("mine\n")
    with pytest.raises(ChangedByHand, match=r"a\.yml; nothing was written.*--force") as refused:
        write_folder(tmp_path, {"a.yml": "new\n", "rules/b.yml": "new\n"})
    assert refused.value.paths == ("a.yml",)
    assert _content(tmp_path) == {"a.yml": "mine\n", "rules/b.yml": "b\n"}
    # So is a file that would be taken away.
    with pytest.raises(ChangedByHand):
        write_folder(tmp_path, {"rules/b.yml": "b\n"})
    assert write_folder(tmp_path, _FILES, force=True).changed == ("a.yml",)
    assert _content(tmp_path) == _FILES


def test_a_hand_that_wrote_what_would_be_written_is_no_change(tmp_path: Path) -> None:
    """Only the content counts."""
    write_folder(tmp_path, _FILES)
    (tmp_path / "a.yml").write_text("new\n")
    assert not write_folder(tmp_path, {**_FILES, "a.yml": "new\n"}).anything
    (tmp_path / "a.yml").write_text("mine\n")
    with pytest.raises(ChangedByHand):
        write_folder(tmp_path, _FILES)


def test_what_was_deleted_by_hand_is_written_again(tmp_path: Path) -> None:
    """There is nothing in it that could be lost."""
    write_folder(tmp_path, _FILES)
    (tmp_path / "a.yml").unlink()
    assert write_folder(tmp_path, _FILES).added == ("a.yml",)


def test_a_look_changes_nothing(tmp_path: Path) -> None:
    """`dry_run` says the same and writes nothing, not even the folder."""
    folder = tmp_path / "monitoring"
    assert write_folder(folder, _FILES, dry_run=True).added == ("a.yml", "rules/b.yml")
    assert not folder.exists()


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Also with force: it is not ours to write into."""
    (tmp_path / "thesis.tex").write_text("years of work")
    for force in (False, True):
        with pytest.raises(FolderUnusable, match="was not written by us; name a new folder"):
            write_folder(tmp_path, _FILES, force=force)
    assert _content(tmp_path) == {"thesis.tex": "years of work"}


@pytest.mark.parametrize("text", ["", "[]", '{"files": []}', '{"files": {"a": 1}}', "\x00"])
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    """Without it, nobody knows whose the files are."""
    (tmp_path / LIST_NAME).write_text(text)
    with pytest.raises(FolderUnusable, match="nobody knows what is ours"):
        write_folder(tmp_path, _FILES)


def test_a_list_that_names_files_elsewhere_takes_nothing_away(tmp_path: Path) -> None:
    """A list is a file too, and may have been written by anybody."""
    outside = tmp_path / "outside.txt"
    outside.write_text("keep")
    folder = tmp_path / "monitoring"
    folder.mkdir()
    for name in ("../outside.txt", str(outside)):
        (folder / LIST_NAME).write_text(json.dumps({"files": {name: ["0" * 64]}}))
        with pytest.raises(FolderUnusable, match="leads out of"):
            write_folder(folder, _FILES, force=True)
    assert outside.read_text() == "keep"


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    """Rules are written below the folder or not at all."""
    folder, elsewhere = tmp_path / "monitoring", tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_folder(folder, {"a.yml": "a\n"})
    (folder / "rules").symlink_to(elsewhere)
    with pytest.raises(FolderUnusable, match="leads out of"):
        write_folder(folder, _FILES)
    assert list(elsewhere.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    """A file in the way, a folder that the kernel keeps to itself, a file where a folder goes."""
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", tmp_path / "file" / "monitoring", Path("/proc/monitoring")):
        with pytest.raises(FolderUnusable, match="name a folder that can be made or written"):
            write_folder(place, _FILES)


def test_it_goes_on_where_it_was_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ended at any file, the next run, of other content too, finds no change by hand."""
    write_folder(tmp_path, _FILES)
    replace, calls = Path.replace, []
    for end_at in range(1, 5):

        def replaced(self: Path, target: Path, end_at: int = end_at) -> Path:
            calls.append(target)
            if len(calls) == end_at:
                raise KeyboardInterrupt
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", replaced)
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            write_folder(tmp_path, {"a.yml": f"{end_at}\n", "rules/b.yml": f"{end_at}\n"})
        monkeypatch.setattr(Path, "replace", replace)
        assert not list(tmp_path.rglob("*.new"))
        write_folder(tmp_path, _FILES)
        assert _content(tmp_path) == _FILES


def test_files_can_be_read_by_those_who_must(tmp_path: Path) -> None:
    """Prometheus runs as a user of its own."""
    before = os.umask(0o077)
    try:
        write_folder(tmp_path, _FILES)
    finally:
        os.umask(before)
    assert (tmp_path / "a.yml").stat().st_mode & 0o777 == 0o644
