"""An index of agent-evaluation runs that answers at once.

from indexer import open_index

with open_index("results/index.db") as index:
    for run in index.runs(experiment="with_skills", since="7d").runs:
        print(run["run_id"], run["pass_rate"])
"""

from indexer.errors import IndexerError
from indexer.index.reader import Changes, Index, Page, TrialPage, open_index

__all__ = ["Changes", "Index", "IndexerError", "Page", "TrialPage", "open_index"]
