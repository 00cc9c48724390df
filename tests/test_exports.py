"""The lazy table, the block for type checkers and `__all__` agree; public names exist and are documented."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import ktrio

EXPORTS: dict[str, str] = vars(ktrio).get("_EXPORTS", {})
ALL: list[str] = vars(ktrio).get("__all__", [])


def public_modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(ktrio.__path__, "ktrio.", onerror=lambda _name: None):
        if not any(part.startswith("_") for part in module.name.split(".")):
            yield module.name


@cache
def read_module(module: str) -> ast.Module:
    spec = importlib.util.find_spec(module)
    assert spec is not None, f"there is no module {module}"
    if spec.origin is None:  # a folder without an __init__.py
        return ast.Module([], [])
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"), spec.origin)


def imports_of(statements: list[ast.stmt]) -> dict[str, tuple[str, str]]:
    """Name here -> the module it comes from, and its name there."""
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in statements
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def names_under_type_checking(tree: ast.Module) -> dict[str, str]:
    return {
        name: module
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for name, (module, _) in imports_of(node.body).items()
    }


def is_definition(node: ast.stmt, name: str) -> bool:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return node.name == name
        case ast.Assign():
            return any(isinstance(each, ast.Name) and each.id == name for each in node.targets)
        case ast.AnnAssign():
            return isinstance(node.target, ast.Name) and node.target.id == name
        case _:
            return False


def is_documented(module: str, name: str) -> bool:
    """Has its definition, found through re-exports, a docstring? (For data it stands on the next line.)"""
    body = read_module(module).body
    for index, node in enumerate(body):
        if not is_definition(node, name):
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return bool(ast.get_docstring(node))
        following = body[index + 1] if index + 1 < len(body) else None
        return (
            isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
            and isinstance(following.value.value, str)
        )
    origin = imports_of(body).get(name)
    if origin is None and importlib.util.find_spec(f"{module}.{name}") is not None:  # a submodule
        return bool(ast.get_docstring(read_module(f"{module}.{name}")))
    return origin is not None and is_documented(*origin)


def test_the_lazy_table_is_all() -> None:
    assert sorted(EXPORTS) == sorted(name for name in ALL if not name.startswith("__"))
    assert len(ALL) == len(set(ALL))


def test_type_checkers_see_the_same_names_from_the_same_modules() -> None:
    assert names_under_type_checking(read_module("ktrio")) == EXPORTS


@pytest.mark.parametrize("name", sorted(EXPORTS))
def test_an_exported_name_resolves_and_is_documented(name: str) -> None:
    assert getattr(ktrio, name) is getattr(importlib.import_module(EXPORTS[name]), name)
    assert name in dir(ktrio)
    assert is_documented(EXPORTS[name], name), f"ktrio.{name} has no docstring in {EXPORTS[name]}"


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ktrio.no_such_name  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(public_modules()))
def test_what_a_public_module_offers_exists_and_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    tree = read_module(name)
    offered = vars(module).get("__all__") or [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        if not node.name.startswith("_")
    ]
    assert not tree.body or ast.get_docstring(tree), f"{name} does not say what it is"
    missing = [each for each in offered if not hasattr(module, each)]
    assert not missing, f"{name}.__all__ names what does not exist: {missing}"
    silent = [each for each in offered if not is_documented(name, each)]
    assert not silent, f"{name} has no docstring for {silent}"


@pytest.mark.parametrize(
    ("name", "stays_out"),
    [
        ("ktrio", "trio h11 click rich"),
        ("ktrio.http", "trio h11 click rich ktrio.net ktrio.workqueue"),
        ("ktrio.cli", "rich"),
        ("ktrio.workqueue", "h11 click rich ktrio.net ktrio.http"),
        ("ktrio.net", "h11 click rich ktrio.http ktrio.workqueue"),
    ],
)
def test_a_library_is_importable_alone(name: str, stays_out: str) -> None:
    code = f"import sys, {name}; print(*set({stays_out.split()!r}) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
