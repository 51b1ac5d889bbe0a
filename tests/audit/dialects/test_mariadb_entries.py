"""The statements by which MariaDB's triggers write the log."""

from shipworthy.audit.dialects.mariadb_entries import (
    full_image,
    gather_sql,
    partial_image,
    value_json,
)


def test_an_image_has_each_column_once() -> None:
    """Names are JSON; what is unchanged is left out of a partial image."""
    assert full_image({"a": "1", "b": "2"}) == "CONCAT('{\"a\":',1,',\"b\":',2,'}')"
    assert full_image({}) == "'{}'"
    assert partial_image({"a": "1"}, {"a": "SAME"}) == (
        "CONCAT('{',SUBSTR(CONCAT(IF(SAME,'',CONCAT(',\"a\":',1))),2),'}')"
    )


def test_a_personal_value_is_not_in_the_image() -> None:
    """Only that there is one."""
    assert value_json("x", "int(11)", personal=True) == "IF(x IS NULL,'null','true')"


def test_a_column_that_did_not_change_readies_no_value() -> None:
    """What both images get of a column stands behind the question whether it changed."""
    assert gather_sql("a", "SAME", "1", "2") == (
        "IF NOT (SAME) THEN SET shipworthy_old=CONCAT(shipworthy_old,',\"a\":',1),"
        "shipworthy_new=CONCAT(shipworthy_new,',\"a\":',2); END IF;"
    )
