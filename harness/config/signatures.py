"""Signatures read from source text, so that a config is checked without importing torch or anything else."""

import ast
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.machinery import PathFinder
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from common.errors import suggestion
from common.ranges import ALIASES, Range, is_finite

_PLAIN = {
    "int": ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    "float": ("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool) and is_finite(v)),
    "bool": ("true or false", lambda v: isinstance(v, bool)),
    "str": ("a text", lambda v: isinstance(v, str)),
    "Path": ("a path", lambda v: isinstance(v, str)),
    "None": ("null", lambda v: v is None),
}
_LISTS = {"list", "tuple", "Sequence", "Iterable", "List", "Tuple", "set"}
_DICTS = {"dict", "Mapping", "Dict"}
_UNIONS = {"Optional", "Union"}


class Param(NamedTuple):
    """One argument of a signature, or one field of a TypedDict."""

    annotation: ast.expr | None
    has_default: bool


class Scope(NamedTuple):
    """A module's names: classes, functions and aliases it defines, and what it imports from where."""

    defined: dict[str, ast.AST]
    imported: dict[str, str]


class Signature(NamedTuple):
    """The arguments of a class or function, and the scope in which their annotations are written."""

    params: dict[str, Param]
    accepts_any: bool
    scope: Scope


@cache
def _file(module: str) -> tuple[Path, bool] | None:
    """Return a module's source file and whether it is a package, without importing its parents."""
    path: list[str] | None = None
    spec = None
    for part in module.split("."):
        spec = PathFinder.find_spec(part, path)
        if spec is None or spec.origin is None:
            return None
        path = list(spec.submodule_search_locations or [])
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin), spec.submodule_search_locations is not None


@cache
def _scope(module: str) -> Scope | None:
    # The standard library defines nothing that a config names, and its files are the longest.
    if module.partition(".")[0] in sys.stdlib_module_names:
        return None
    place = _file(module)
    if place is None or place[0].suffix != ".py":
        return None
    defined: dict[str, ast.AST] = {}
    imported: dict[str, str] = {}
    package = module if place[1] else module.rpartition(".")[0]
    for node in _statements(ast.parse(place[0].read_text()).body):
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            source = f"{base}.{node.module}".rstrip(".") if node.level else str(node.module)
            imported |= {alias.asname or alias.name: f"{source}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined.setdefault(node.name, node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.expr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    defined.setdefault(target.id, node.value)
    return Scope(defined, imported)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those under its conditions too."""
    for node in body:
        yield node
        for name in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With | ast.ExceptHandler):
                yield from _statements(getattr(node, name, []))


def _look_up(dotted: str, depth: int = 0) -> tuple[ast.AST, Scope] | None:
    """Return the definition behind a dotted name, following imports."""
    module, _, name = dotted.rpartition(".")
    scope = _scope(module) if module and depth < 10 else None
    return _resolve(name, scope, depth) if scope else None


def _resolve(name: str, scope: Scope, depth: int = 0) -> tuple[ast.AST, Scope] | None:
    if name in scope.defined:
        return scope.defined[name], scope
    return _look_up(scope.imported[name], depth + 1) if name in scope.imported else None


def _bases(node: ast.ClassDef, scope: Scope) -> list[tuple[ast.ClassDef, Scope]]:
    found = [_resolve_class(base, scope) for base in node.bases]
    return [pair for pair in found if pair]


def _resolve_class(annotation: ast.expr, scope: Scope) -> tuple[ast.ClassDef, Scope] | None:
    # `module.Class` is of another file, though a class of this one may have the same name.
    is_dotted = isinstance(annotation, ast.Attribute)
    found = _look_up(ast.unparse(annotation)) if is_dotted else _resolve(_name(annotation), scope)
    return (found[0], found[1]) if found and isinstance(found[0], ast.ClassDef) else None


def _constructor(node: ast.ClassDef, scope: Scope) -> tuple[ast.FunctionDef, Scope] | None:
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item, scope
    return next((found for base in _bases(node, scope) if (found := _constructor(*base))), None)


def find(target: str) -> Signature | None:
    """Return the signature behind a `_target_`, None if there is no such class or function."""
    found = _look_up(target)
    if found is None or not isinstance(found[0], ast.ClassDef | ast.FunctionDef):
        return None
    definition, scope = found
    is_class = isinstance(definition, ast.ClassDef)
    if isinstance(definition, ast.ClassDef):
        constructor = _constructor(definition, scope)
        if constructor is None:
            return Signature({}, accepts_any=False, scope=scope)
        definition, scope = constructor
    assert isinstance(definition, ast.FunctionDef)
    node = definition
    args = node.args
    ordered = args.posonlyargs + args.args
    defaults: list[Any] = [None] * (len(ordered) - len(args.defaults)) + list(args.defaults)
    pairs = list(zip(ordered, defaults, strict=True))[1 if is_class else 0 :]
    pairs += list(zip(args.kwonlyargs, args.kw_defaults, strict=True))
    params = {arg.arg: Param(arg.annotation, default is not None) for arg, default in pairs}
    return Signature(params, args.kwarg is not None, scope)


def _name(annotation: ast.expr) -> str:
    return annotation.attr if isinstance(annotation, ast.Attribute) else getattr(annotation, "id", "")


def fields(annotation: ast.expr | None, scope: Scope) -> Signature | None:
    """Return the fields of a TypedDict annotation as a signature, None for any other annotation."""
    if annotation is None:
        return None
    if isinstance(annotation, ast.BinOp):
        return fields(annotation.left, scope) or fields(annotation.right, scope)
    found = _resolve_class(annotation, scope)
    if not found or "TypedDict" not in _ancestors(*found):
        return None
    node, home = found
    inherited: dict[str, Param] = {}
    for base, place in _bases(node, home):
        above = fields(ast.Name(base.name), place)
        inherited |= above.params if above else {}
    total = not any(k.arg == "total" and getattr(k.value, "value", True) is False for k in node.keywords)
    own = {
        item.target.id: _field(item.annotation, total)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    return Signature(inherited | own, accepts_any=False, scope=home)


def _field(annotation: ast.expr, total: bool) -> Param:
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) == "NotRequired":
        return Param(annotation.slice, has_default=True)
    return Param(annotation, has_default=not total)


def typed_dict(dotted: str) -> Signature | None:
    """Return the fields of the TypedDict with a dotted name as a signature."""
    module, _, name = dotted.rpartition(".")
    scope = _scope(module)
    return fields(ast.Name(name), scope) if scope else None


def plain_attribute(target: str, name: str) -> Any:
    """Return a class attribute written as a plain value, of the class or else of its first base; None without one."""
    found = _look_up(target)
    return _plain_attribute(found[0], found[1], name) if found and isinstance(found[0], ast.ClassDef) else None


def _plain_attribute(node: ast.ClassDef, scope: Scope, name: str) -> Any:
    for item in node.body:
        target = item.target if isinstance(item, ast.AnnAssign) else None
        if isinstance(item, ast.AnnAssign) and isinstance(target, ast.Name) and target.id == name and item.value:
            return ast.literal_eval(item.value)
    values = (_plain_attribute(*base, name) for base in _bases(node, scope))
    return next((value for value in values if value is not None), None)


class Options(NamedTuple):
    """Options that a class declares: their fields, their defaults, and a line of help for each."""

    signature: Signature
    defaults: dict[str, Any]
    help: dict[str, str]


def declared_options(target: str, attribute: str) -> Options | None:
    """Return what a class attribute `attribute: ClassVar[SomeTypedDict] = {...}` declares, None if there is none.

    The defaults are written as plain values; the text under a field of the TypedDict is its help.
    """
    found = _look_up(target)
    return _declared(found[0], found[1], attribute) if found and isinstance(found[0], ast.ClassDef) else None


def _declared(node: ast.ClassDef, scope: Scope, attribute: str) -> Options | None:
    for item in node.body:
        is_it = isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.target.id == attribute
        if is_it and isinstance(item, ast.AnnAssign) and item.value is not None:
            annotation = item.annotation
            if isinstance(annotation, ast.Subscript) and _name(annotation.value) == "ClassVar":
                annotation = annotation.slice
            signature, typed = fields(annotation, scope), _resolve_class(annotation, scope)
            assert signature is not None
            assert typed is not None
            return Options(signature, ast.literal_eval(item.value), _help(*typed))
    return next((found for base in _bases(node, scope) if (found := _declared(*base, attribute))), None)


def _help(node: ast.ClassDef, scope: Scope) -> dict[str, str]:
    """Return the text under each field of a TypedDict, those of its bases first."""
    texts: dict[str, str] = {}
    for base in _bases(node, scope):
        texts |= _help(*base)
    for item, following in pairwise(node.body):
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and isinstance(following, ast.Expr):
            texts[item.target.id] = str(ast.literal_eval(following.value))
    return texts


def nested(value: Any, annotation: ast.expr | None, scope: Scope, path: str) -> Iterator[tuple[str, Any, Signature]]:
    """Yield path, value and fields of each TypedDict that a value is by its annotation, or holds one level down."""
    if isinstance(value, dict) and (own := fields(annotation, scope)):
        yield path, value, own
    elif isinstance(annotation, ast.BinOp):
        yield from nested(value, annotation.left, scope, path)
        yield from nested(value, annotation.right, scope, path)
    elif isinstance(annotation, ast.Subscript) and isinstance(value, dict | list):
        inner = annotation.slice.elts[-1] if isinstance(annotation.slice, ast.Tuple) else annotation.slice
        for name, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from nested(item, inner, scope, f"{path}.{name}")


def _ancestors(node: ast.ClassDef, scope: Scope) -> set[str]:
    names = {_name(base) for base in node.bases}
    return names.union(*(_ancestors(*base) for base in _bases(node, scope)))


def fits(value: Any, annotation: ast.expr | None, scope: Scope) -> str | None:
    """Return None if a plain value fits an annotation, else what it should be; what cannot be read fits."""
    if annotation is None or (isinstance(value, dict) and "_target_" in value):
        return None
    if isinstance(annotation, ast.Constant):
        if isinstance(annotation.value, str):
            return fits(value, ast.parse(annotation.value, mode="eval").body, scope)
        return _fits_plain(value, "None")
    if isinstance(annotation, ast.BinOp):
        return _fits_any(value, [annotation.left, annotation.right], scope)
    if isinstance(annotation, ast.Subscript):
        return _fits_subscript(value, annotation, scope)
    return _fits_name(value, annotation, scope)


def _fits_name(value: Any, annotation: ast.expr, scope: Scope) -> str | None:
    name = _name(annotation)
    if name in _PLAIN:
        return _fits_plain(value, name)
    if name in ALIASES:
        return _fits_range(value, *ALIASES[name])
    if name in _LISTS:
        return None if isinstance(value, list) else "a list"
    if name in _DICTS or fields(annotation, scope):
        return None if isinstance(value, dict) else "a mapping"
    alias = _resolve(name, scope)
    if alias and isinstance(alias[0], ast.expr) and not isinstance(alias[0], ast.Call):
        return fits(value, alias[0], alias[1])
    return None


def _fits_plain(value: Any, name: str) -> str | None:
    expected, good = _PLAIN[name]
    if name == "float" and isinstance(value, float) and not is_finite(value):
        return "a finite number"
    return None if good(value) else expected


def _fits_range(value: Any, name: str, bounds: Range) -> str | None:
    expected = _PLAIN[name][0]
    return None if _fits_plain(value, name) is None and bounds.holds(value) else f"{expected}{bounds.text}"


def _fits_any(value: Any, choices: list[ast.expr], scope: Scope) -> str | None:
    # Plain types first: to know others, files are read.
    if any(
        (_name(choice) in _PLAIN or _name(choice) in ALIASES) and fits(value, choice, scope) is None
        for choice in choices
    ):
        return None
    answers = [fits(value, choice, scope) for choice in choices]
    return None if None in answers else " or ".join(dict.fromkeys(a for a in answers if a))


def _fits_subscript(value: Any, annotation: ast.Subscript, scope: Scope) -> str | None:
    name, inner = _name(annotation.value), annotation.slice
    parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
    if name == "Literal":
        allowed = [part.value for part in parts if isinstance(part, ast.Constant)]
        if value in allowed:
            return None
        return f"one of {', '.join(dict.fromkeys(map(str, allowed)))}{_hint(value, allowed)}"
    if name == "Annotated":
        bounds = next((part for part in parts if isinstance(part, ast.Call) and _name(part.func) == "Range"), None)
        if bounds is None or _name(parts[0]) not in _PLAIN:
            return fits(value, parts[0], scope)
        limits = {str(word.arg): ast.literal_eval(word.value) for word in bounds.keywords}
        return _fits_range(value, _name(parts[0]), Range(**limits))
    if name in _UNIONS:
        none = [ast.Constant(None)] if name == "Optional" else []
        return _fits_any(value, [*parts, *none], scope)
    if name in _LISTS:
        if not isinstance(value, list):
            return "a list"
        wrong = next((w for item in value if (w := fits(item, parts[0], scope))), None)
        return f"a list in which each is {wrong}" if wrong else None
    if name in _DICTS:
        if not isinstance(value, dict):
            return "a mapping"
        wrong = next((w for item in value.values() if (w := fits(item, parts[-1], scope))), None)
        return f"a mapping in which each value is {wrong}" if wrong else None
    return None


def _hint(value: Any, allowed: list[Any]) -> str:
    hint = suggestion(str(value), map(str, allowed))
    return hint if "did you mean" in hint else ""
