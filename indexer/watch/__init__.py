"""Keeps an index current: looks again when something changed."""

from collections.abc import Callable
from typing import Any

Log = Callable[[str, dict[str, Any]], None]
"""Takes the name of an event and its facts."""
