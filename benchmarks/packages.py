"""Which version of a package is installed. Loads nothing, so that a process whose memory is measured may import it."""

from importlib import metadata

__all__ = ["version"]


def version(package: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
