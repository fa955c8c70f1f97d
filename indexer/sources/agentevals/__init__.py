"""Runs in the PostgreSQL database of agentevals."""

from indexer.sources.agentevals.database import SCHEMA
from indexer.sources.agentevals.source import AgentevalsSettings, AgentevalsSource

__all__ = ["SCHEMA", "AgentevalsSettings", "AgentevalsSource"]
