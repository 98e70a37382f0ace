"""Builds the wheel. With OTELBPF_COMPILE=1 what stands in the way of every request is compiled by mypyc
(https://mypyc.readthedocs.io), after which a span costs a third; it needs a C compiler and Python's headers. The
compiled modules lie beside their sources, do the same, and are left out, here and by `pip install .`, without that
variable.
"""

from __future__ import annotations

import ast
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = (
    "connections/*.py",
    "exchanges/*.py",
    "exporters/cache.py",
    "exporters/encode.py",
    "exporters/group.py",
    "exporters/json.py",
    "exporters/protobuf.py",
    "exporters/text.py",
    "identity/directory.py",
    "metrics/*.py",
    "pipeline.py",
    "protocols/*.py",
    "events/decode.py",
    "events/traffic.py",
    "sources/ring.py",
    "telemetry/ledger.py",
    "tls/*.py",
    "tracing/**/*.py",
    "values.py",
)
MYPY = ("--strict", "--explicit-package-bases", "--ignore-missing-imports")


class CompileHook(BuildHookInterface[Any]):
    """See https://hatch.pypa.io/latest/plugins/build-hook/custom/."""

    def dependencies(self) -> list[str]:
        """Packages that compiling needs: mypyc, and those whose types tell it most."""
        return ["h11>=0.16", "hpack>=4.1", "msgspec>=0.20", "mypy>=1.16", "setuptools>=68"] if self._asked() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and put the results where their modules go."""
        if version != "standard" or not self._asked():
            return
        self._folder = Path(tempfile.mkdtemp(prefix="otelbpf-compile-"))
        root = Path(self.root)
        for library in compile_modules(root, sorted(map(str, compilable(root))), self._folder):
            build_data["force_include"][str(library)] = str(library.relative_to(self._folder / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Nothing stays behind."""
        if version == "standard" and self._asked():
            shutil.rmtree(self._folder)

    @staticmethod
    def _asked() -> bool:
        return os.environ.get("OTELBPF_COMPILE") == "1"


def compilable(root: Path) -> Iterator[Path]:
    """The modules that are compiled, relative to `root`. Those with classes that take arguments, as msgspec's structs
    do, are none of them: mypyc drops these arguments."""
    for pattern in COMPILED:
        for path in root.glob(f"otelbpf/{pattern}"):
            classes = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
            if path.name != "__init__.py" and not any(one.keywords for one in classes):
                yield path.relative_to(root)


def compile_modules(root: Path, modules: list[str], folder: Path) -> list[Path]:
    """Compile them all into one library, and a small one for each that leads there; `folder` takes everything."""
    from mypyc.build import mypycify  # noqa: PLC0415
    from setuptools import Distribution  # noqa: PLC0415

    before = Path.cwd()
    os.chdir(root)
    try:
        mypy = [*MYPY, f"--cache-dir={folder / 'cache'}"]
        # More optimization takes longer and makes nothing faster: most of the time goes to Python's own functions.
        extensions = mypycify(
            [*mypy, *modules], opt_level="1", debug_level="0", target_dir=str(folder), multi_file=True
        )
        build = Distribution({"name": "otelbpf", "ext_modules": extensions}).get_command_obj("build_ext")
        build.build_lib, build.build_temp = str(folder / "lib"), str(folder / "objects")
        build.parallel = os.cpu_count()
        build.ensure_finalized()
        build.run()
    finally:
        os.chdir(before)
    return sorted((folder / "lib").rglob("*.so"))
