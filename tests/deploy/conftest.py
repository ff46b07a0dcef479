"""One engine for all checks of images."""

from collections.abc import Iterator

import pytest

from tests.deploy import engine
from tests.deploy.engine import Project


@pytest.fixture(scope="session")
def project() -> Iterator[Project]:
    """The compose file on an engine, with nothing of it built or started."""
    why = engine.missing()
    if why is not None:
        pytest.skip(why)
    with engine.project() as project:
        yield project
