"""Every command, in the order in which --help lists them."""

from indexer.cli import indexing, lists, questions, feed  # noqa: F401  isort:skip
from indexer.cli.app import app

__all__ = ["app"]
