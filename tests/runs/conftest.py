"""Projects with real git, DVC and MLflow in which runs finished, made once; tests copy them."""

import pytest

from tests import finished_runs, spaces


@pytest.fixture(scope="session")
def finished(project, tmp_path_factory, migrated):
    """Make two runs with different code and parameters, for reproduce and restore."""
    return finished_runs.made(project, tmp_path_factory.mktemp("finished"), migrated)


@pytest.fixture(scope="session")
def spacious(tmp_path_factory, migrated):
    """Make four runs that share parts of DVC's cache, for usage and gc; yield them with their ids by name."""
    return spaces.made(tmp_path_factory.mktemp("spacious"), migrated)


@pytest.fixture
def ids(spacious):
    return spacious[1]
