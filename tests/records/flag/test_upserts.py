"""Upserts are found where they stand."""

from pathlib import Path

from shipworthy.records.flag.upserts import find_upserts


def test_upserts_are_found_with_file_and_line_and_columns(tmp_path: Path):
    """In Python and SQL; what a package manager has put there is not the application's."""
    (tmp_path / "app.py").write_text(
        "\nstatement.on_conflict_do_update(index_elements=['email'], set_={})\n"
    )
    (tmp_path / "load.sql").write_text("INSERT INTO t VALUES (1) ON CONFLICT (a, b) DO NOTHING")
    (tmp_path / "notes.txt").write_text("ON CONFLICT (email)")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "lib.py").write_text("on_conflict_do_nothing(['email'])")

    found = list(find_upserts(tmp_path))

    assert [(it.file.name, it.line) for it in found] == [("app.py", 2), ("load.sql", 1)]
    assert [it.names(["email"]) for it in found] == [True, False]
    assert [it.names(["a", "b"]) for it in found] == [False, True]
