"""Projects with real git, DVC and MLflow in which runs finished, made once; tests copy them."""

import pytest

from tests import finished_runs, spaces


@pytest.fixture(scope="session")
def finished(project, tmp_path_factory, migrated):
    """Two runs, of other code and parameters each: to reproduce and restore."""
    return finished_runs.made(project, tmp_path_factory.mktemp("finished"), migrated)


@pytest.fixture(scope="session")
def spacious(tmp_path_factory, migrated):
    """Four runs that share parts of DVC's cache, and their ids by name: to see and to free what they take."""
    return spaces.made(tmp_path_factory.mktemp("spacious"), migrated)


@pytest.fixture
def ids(spacious):
    return spacious[1]
