"""The training loop that every system uses: it knows the `Task` protocol and never a named system."""

from importlib import metadata

_NEEDED = {"jax": (0, 10), "orbax-checkpoint": (0, 12, 8)}


def _check_versions() -> None:
    for package, needed in _NEEDED.items():
        wanted = ".".join(map(str, needed))
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            found = "none"
        numbers = tuple(int(part) for part in found.split(".")[: len(needed)] if part.isdigit())
        if numbers < needed:
            raise ImportError(
                f"training needs {package} >= {wanted}, found {found}: pip install 'jaxcodec[train]'"
            )


_check_versions()
