"""The kernel's selftest, built once a session for each kernel that this machine's release offers."""

from __future__ import annotations

import pytest

from tests.conformance.kernel_build import Built, build
from tests.conformance.kernel_source import RELEASES, cache_folder, offered


@pytest.fixture(scope="session", params=RELEASES)
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """One kernel's selftest, fetched and built."""
    release: str = request.param
    present = offered()
    if release not in present:
        pytest.skip(
            f"apt finds linux-source-{' and '.join(present)} here, not {release}; "
            f"to run this too, put linux-source-{release}_*.deb into {cache_folder()}"
        )
    return build(release, tmp_path_factory.mktemp(f"kernel-{release}"))
