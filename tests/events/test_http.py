import pytest

from shipworthy.events import HTTP_METHODS, HTTP_STATUSES, method_label, status_label


@pytest.mark.parametrize("method", ["get", "BREW", "X" * 5000, "", "WEBSOCKET", "_other"])
def test_a_method_a_client_invented_is_no_value_of_its_own(method):
    """Nor are other spellings: methods are told apart by case."""
    assert method_label(method) == "_other"


def test_known_methods_and_statuses_are_values_and_others_are_one():
    """Applications may answer with numbers of their own; 499 is ours."""
    assert all(method_label(method) == method for method in HTTP_METHODS.values)
    assert all(
        status_label(int(status)) == status for status in HTTP_STATUSES.values if status.isdecimal()
    )
    assert {status_label(status) for status in (99, 299, 600, 10**9)} == {"_other"}
    assert {status_label(status) for status in (509, 520, 524, 599)} == {"5xx"}
    assert "499" in HTTP_STATUSES.values
    assert status_label(0) == "none"
