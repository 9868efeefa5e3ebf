"""Training asks for jax >= 0.10: the environment of the extra [tfc] has less and skips this folder."""

import jax
import jax.experimental.compilation_cache.compilation_cache
import pytest

collect_ignore_glob = ["test_*.py"] if jax.__version_info__ < (0, 10) else []


@pytest.fixture(scope="module", autouse=True)
def compile_once(tmp_path_factory):
    """Every run compiles its step anew, mostly the same one: keep what was compiled, which saves half a minute."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    jax.experimental.compilation_cache.compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax.experimental.compilation_cache.compilation_cache.reset_cache()
