"""The import arrows of the README's architecture section, and some rules of style that a linter does not hold."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "jaxcodec"
MAX_LINES = 500

# What a package may import of jaxcodec, besides itself, `errors` and `version`; `...` is anything.
ARROWS = {
    "ops": set(),
    "layers": {"ops"},
    "entropy": {"ops", "layers"},
    "coding": set(),
    "metrics": {"ops"},
    "data": set(),
    "training": {"ops", "metrics", "data"},
    "pq": {"ops", "layers", "training", "pq.artefact", "pq.layouts"},
    "pq.artefact": {"coding", "pq.layouts"},
    "pq.layouts": set(),
    "zoo": {"pq.artefact"},
    "codecs": {"ops", "layers", "entropy", "coding", "metrics", "pq.artefact", "zoo"},
    "evaluation": {"codecs", "metrics"},
    "cli": ...,
    "demo": ...,
    "__init__": ...,
    "errors": set(),
    "version": set(),
}
EVERYWHERE = {"errors", "version"}

JAX = {"jax", "jaxlib", "flax", "optax"}
# What a package must not import from outside.
FORBIDDEN = {
    "ops": {"flax", "optax"},
    "coding": JAX,
    "pq.artefact": JAX,
    "pq.layouts": JAX,
    "zoo": JAX,
    "errors": JAX | {"numpy"},
}
FORBIDDEN_EVERYWHERE = {"experiments", "scripts", "tests", "torch", "clu"}


def package_files():
    return sorted(PACKAGE.rglob("*.py"))


def unit_of(parts):
    """`("jaxcodec", "pq", "artefact")` -> `"pq.artefact"`: the row of ARROWS that a module belongs to."""
    if len(parts) < 2:
        return "__init__"
    if parts[1:3] in (("pq", "artefact"), ("pq", "layouts")):
        return ".".join(parts[1:3])
    return parts[1]


def module_of(path):
    """`jaxcodec/ops/gdn.py` -> `("jaxcodec", "ops", "gdn")`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def parsed(path):
    return ast.parse(path.read_text(), filename=str(path))


def imports_of(path):
    """Every imported module as a tuple of names, wherever in the file the import stands."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield tuple(alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: line {node.lineno}: a relative import"
            assert node.module is not None
            for alias in node.names:
                # `from jaxcodec import ops` imports jaxcodec.ops; a name too many at the end does no harm.
                yield (*node.module.split("."), alias.name)


def named(path):
    return str(path.relative_to(ROOT))


every_file = pytest.mark.parametrize("path", package_files(), ids=named)


def test_every_package_has_its_arrows():
    assert {unit_of(module_of(path)) for path in package_files()} <= set(ARROWS)


@every_file
def test_imports_follow_the_arrows(path):
    unit = unit_of(module_of(path))
    allowed = ARROWS[unit]
    if allowed is ...:
        return
    wrong = {
        ".".join(name)
        for name in imports_of(path)
        if name[0] == "jaxcodec" and unit_of(name) not in {unit} | allowed | EVERYWHERE
    }
    assert not wrong, f"{unit} may import {sorted(allowed | EVERYWHERE)}"


@every_file
def test_nothing_in_the_package_imports_flags_or_experiments(path):
    for name in imports_of(path):
        assert name[:2] != ("absl", "flags")
        assert name[0] not in FORBIDDEN_EVERYWHERE


@every_file
def test_the_coder_and_the_weight_files_stay_free_of_jax(path):
    unit = unit_of(module_of(path))
    assert not {name[0] for name in imports_of(path)} & FORBIDDEN.get(unit, set())


@every_file
def test_public_functions_say_what_they_return(path):
    def check(body):
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                check(node.body)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                assert node.returns is not None, f"line {node.lineno}: {node.name}"

    check(parsed(path).body)


def source_files():
    folders = [PACKAGE, ROOT / "experiments", ROOT / "scripts", ROOT / "tests"]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def test_a_file_that_is_run_by_its_path_imports_nothing_beside_the_package():
    """`python scripts/x.py` has scripts/ on the path and not the repository, unless that is installed as editable."""
    for path in [*(ROOT / "scripts").glob("*.py"), *(ROOT / "experiments").glob("*.py")]:
        if f"python {named(path)}" in path.read_text():
            assert not {name[0] for name in imports_of(path)} & {"experiments", "scripts"}, named(path)


def test_no_file_imports_by_star():
    for path in source_files():
        assert all(name[-1] != "*" for name in imports_of(path)), named(path)


def test_no_file_is_longer_than_one_can_read():
    too_long = {named(p): n for p in source_files() if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert not too_long


def test_the_check_sees_imports_inside_functions(tmp_path):
    source = tmp_path / "example.py"
    source.write_text("def f():\n    from jaxcodec.codecs import base\n    import jax.numpy as jnp\n")
    assert list(imports_of(source)) == [("jaxcodec", "codecs", "base"), ("jax", "numpy")]
    assert unit_of(("jaxcodec", "pq", "artefact", "read")) == "pq.artefact"
    assert unit_of(("jaxcodec", "pq", "kmeans")) == "pq"
    assert unit_of(("jaxcodec", "__version__")) == "__version__"
