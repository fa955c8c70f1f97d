"""The kinds of sources that `indexer.toml` may name: a new one is a module beside this one, and an entry here."""

from indexer.sources.agentevals import AgentevalsSettings
from indexer.sources.clone import GitSettings
from indexer.sources.commits import RepoSettings
from indexer.sources.folder import FolderSettings

SourceSettings = FolderSettings | GitSettings | AgentevalsSettings

__all__ = ["RepoSettings", "SourceSettings"]
