"""Whether native code in a package can be loaded at the edge: ELF for x86_64, for the runtime's CPython. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

X86_64 = 0x3E
_CPYTHON = re.compile(r"\.cpython-(?P<version>3[0-9]{1,2})[^/]*\.so$")
_FOREIGN = (".pyd", ".dll", ".dylib")


def check_native(files: Mapping[str, bytes], runtime: str) -> list[str]:
    """What is built for something else than Lambda@Edge's machines (Linux, x86_64) and the runtime."""
    problems = []
    for name in sorted(files):
        data = files[name]
        if name.endswith(_FOREIGN):
            problems.append(f"{name} is not for Linux; list its library in requirements.txt instead of copying it.")
        elif name.endswith(".so") or ".so." in name.rpartition("/")[2]:
            # e_ident (4), class (1), data (1) … e_machine at 18, little-endian (ELF specification, "ELF Header").
            machine = int.from_bytes(data[18:20], "little") if data[:4] == b"\x7fELF" else None
            if machine != X86_64:
                problems.append(f"{name} is not built for Linux on x86_64, which is what Lambda@Edge has.")
                continue
            built_for = _CPYTHON.search(name)
            if built_for is not None and f"python3.{built_for['version'][1:]}" != runtime:
                version = built_for["version"]
                problems.append(f"{name} is built for Python {version[0]}.{version[1:]}, not for {runtime}.")
    return problems
