"""Every command, in the order in which --help lists them."""

from indexer.cli import indexing, publishing, status, lists, show, questions, sql, feed  # noqa: F401  isort:skip
from indexer.cli.app import app

__all__ = ["app"]
