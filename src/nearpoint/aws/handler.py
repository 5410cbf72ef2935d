"""Looks at a function's source the way Lambda will meet it: is the handler there, what does it import, which
environment variables does it count on. Pure: only parses.

Lambda Developer Guide, "Define Lambda function handler in Python"; CloudFront Developer Guide, "Restrictions on
Lambda@Edge".
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

# Lambda Developer Guide, "Defined runtime environment variables".
RUNTIME_VARIABLES = frozenset(
    ("LANG", "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TZ", "HOME")
)  # fmt: skip
RUNTIME_PREFIXES = ("AWS_", "_HANDLER", "_X_AMZN_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """`problems` stop the function from running, `notes` may."""

    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def check_handler(files: Mapping[str, bytes], handler: str) -> list[str]:
    """What is wrong with the handler's name or definition; empty where nothing is."""
    module, dot, name = handler.rpartition(".")
    if not dot or not module or not name.isidentifier():
        return [f"The handler {handler!r} has to be MODULE.FUNCTION, such as index.handler."]
    stem = module.replace(".", "/")
    path = next((each for each in (f"{stem}.py", f"{stem}/__init__.py") if each in files), None)
    if path is None:
        return [f"The handler is {handler}, but there is no {stem}.py."]
    tree = _parse(path, files[path])
    if isinstance(tree, str):
        return [tree]
    found = _definition(tree, name)
    if found is None:
        return [f"The handler is {handler}, but {path} defines no {name}."]
    if isinstance(found, ast.AsyncFunctionDef):
        return [f"{path}:{found.lineno}: {name} is async; Lambda's Python runtime calls ordinary functions only."]
    if isinstance(found, ast.FunctionDef) and not _takes_two(found.args):
        return [f"{path}:{found.lineno}: {name} has to take two arguments, the event and the context."]
    return []


def check_node_handler(files: Collection[str], handler: str) -> list[str]:
    """The same for JavaScript, whose source is not read: whether the handler's file is there."""
    module, dot, name = handler.rpartition(".")
    if not dot or not module or not name:
        return [f"The handler {handler!r} has to be FILE.FUNCTION, such as index.handler."]
    if not any(f"{module}.{suffix}" in files for suffix in ("js", "mjs", "cjs")):
        return [f"The handler is {handler}, but there is no {module}.js, .mjs or .cjs."]
    return []


def check_sources(files: Mapping[str, bytes]) -> Findings:
    """Syntax, and environment variables that nobody can set: Lambda@Edge has none of its own."""
    problems: list[str] = []
    notes: list[str] = []
    for path in sorted(files):
        if not path.endswith(".py"):
            continue
        tree = _parse(path, files[path])
        if isinstance(tree, str):
            problems.append(tree)
            continue
        for name, line, needed in _environment_reads(tree):
            if name in RUNTIME_VARIABLES or name.startswith(RUNTIME_PREFIXES):
                continue
            text = f"{path}:{line}: Lambda@Edge has no environment variables; {name} will not be there"
            (problems if needed else notes).append(text + ("." if needed else ", its default is used."))
    return Findings(problems=tuple(problems), notes=tuple(notes))


def imported_names(source: bytes) -> set[str]:
    """The dotted names of all modules that a source imports; of `from a import b` both `a` and `a.b`."""
    tree = _parse("", source)
    names: set[str] = set()
    for node in ast.walk(tree) if isinstance(tree, ast.Module) else ():
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _parse(path: str, source: bytes) -> ast.Module | str:
    try:
        return ast.parse(source, path)
    except SyntaxError as error:
        return f"{path}:{error.lineno}: not valid Python: {error.msg}."
    except (ValueError, RecursionError, MemoryError):
        return f"{path}: not valid Python."


def _definition(tree: ast.Module, name: str) -> ast.AST | None:
    """The last thing at the top of the module that binds the name; inside `if` and `try` as well."""
    found: ast.AST | None = None
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found = node if node.name == name else found
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = node if any(isinstance(each, ast.Name) and each.id == name for each in targets) else found
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found = node if any((each.asname or each.name) in (name, "*") for each in node.names) else found
        else:
            waiting[:0] = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.stmt)]
    return found


def _takes_two(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    needed = positional - len(arguments.defaults)
    keyword_needed = any(default is None for default in arguments.kw_defaults)
    return needed <= 2 and (positional >= 2 or arguments.vararg is not None) and not keyword_needed


def _environment_reads(tree: ast.Module) -> Iterator[tuple[str, int, bool]]:
    """Name, line and whether it raises when missing, of each environment variable that is read by a literal name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and _is_environ(node.value) and isinstance(node.ctx, ast.Load):
            if isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
                yield node.slice.value, node.lineno, True
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name, called = node.args[0].value, node.func
            reads = isinstance(called, ast.Attribute) and (
                (called.attr == "get" and _is_environ(called.value)) or called.attr == "getenv"
            )
            if reads and isinstance(name, str):
                yield name, node.lineno, False


def _is_environ(node: ast.AST) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "environ") or (
        isinstance(node, ast.Name) and node.id == "environ"
    )
