"""The README's code is run, and what it names exists."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_researchers_snippet_runs_and_has_a_finite_gradient():
    (snippet,) = [code for code in re.findall(r"```python\n(.*?)```", README, re.S) if "nn.Module" in code]
    scope = {"__name__": "readme"}
    exec(compile(snippet, "README.md", "exec"), scope)
    leaves = jax.tree.leaves(scope["gradient"])
    assert all(jnp.isfinite(leaf).all() for leaf in leaves)
    assert sum(float(jnp.abs(leaf).sum()) for leaf in leaves) > 0


def test_every_file_the_readme_names_exists():
    named = set(re.findall(r"\b(?:jaxcodec|experiments|scripts|tests|results|data)/[\w./]+\b", README))
    assert len(named) > 5
    missing = [name for name in named if not (ROOT / name.rstrip("/.")).exists()]
    assert not missing


def test_no_placeholder_is_left_in_the_readme():
    assert not re.search(r"@[A-Z]+@", README)
