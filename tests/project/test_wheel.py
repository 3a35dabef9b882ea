"""The wheel carries the built C images, and says for which platform."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from this checkout, with the build backend of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_is_for_any_python_3_on_this_platform(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")


@pytest.mark.slow
def test_wheel_carries_the_images_the_types_and_the_licence(wheel: Path, checkout: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    images = [path.name for path in (checkout / "src/swsgx/native/images").iterdir()]
    assert images
    assert {f"swsgx/native/images/{name}" for name in images} <= set(names)
    assert "swsgx/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
