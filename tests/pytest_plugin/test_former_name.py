"""A conftest.py that uses the former name of the plugin, `audit.plugin`, works as before."""

import pytest

from tests.pytest_plugin.conftest import CONFTEST, Suites

pytest_plugins = ("pytester",)


@pytest.mark.parametrize("both", [False, True])
def test_a_conftest_with_the_former_name_works(suites: Suites, both: bool) -> None:
    former = CONFTEST.replace("audit.pytest_plugin import", "audit.plugin import")
    suites.pytester.makeconftest(former.replace('("audit.pytest_plugin",)', '["audit.plugin"]'))
    result = suites.run_apart("sentiment", *(("-p", "audit.pytest_plugin") if both else ()))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["PASS: *"])
    assert "warning" not in result.stdout.str()


def test_the_keys_of_the_stash_are_the_same_objects() -> None:
    import audit.plugin
    import audit.pytest_plugin
    from audit.pytest_plugin import state

    assert audit.plugin.AUDIT_FACTORY is audit.pytest_plugin.AUDIT_FACTORY is state.AUDIT_FACTORY
    assert audit.plugin.STATE is audit.pytest_plugin.STATE is state.STATE
