"""Runs in the PostgreSQL database of agentevals."""

from indexer.sources.agentevals.database import SCHEMA
from indexer.sources.agentevals.source import AgentevalsSource

__all__ = ["SCHEMA", "AgentevalsSource"]
