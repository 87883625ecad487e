import pytest

from tests.reliability import test_databases_that_fail as t


@pytest.mark.parametrize("n", range(20))
def test_again(n, site, nursery, report):
    t.test_a_database_that_becomes_read_only(site, nursery, report)
