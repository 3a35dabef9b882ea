"""Hatchling's hook: builds the C images with make, and tags the wheel for this platform (any Python 3)."""

import platform
import shutil
import subprocess
import sysconfig
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class NativeImages(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if platform.system() != "Linux" or platform.machine() != "x86_64":
            raise SystemExit(f"swsgx runs on x86-64 Linux, not on {platform.system()} {platform.machine()}")
        missing = [tool for tool in ("make", "cc") if shutil.which(tool) is None]
        if missing:
            raise SystemExit(
                f"swsgx has C code to build, and {' and '.join(missing)} cannot be found; "
                "on Debian and Ubuntu: apt-get install gcc make libc6-dev"
            )
        try:
            subprocess.run(["make", "-C", "native"], cwd=self.root, check=True)
        except subprocess.CalledProcessError as failed:
            raise SystemExit(f"make -C native ended with status {failed.returncode}; see above") from None
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
