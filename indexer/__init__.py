"""An index of agent-evaluation runs that answers at once.

from indexer import open_index

with open_index("results/index.db") as index:
    for run in index.each_run(experiment="with_skills", since="7d"):
        print(run["run_id"], run["pass_rate"])
"""

from indexer.errors import IndexerError
from indexer.queries.changes import Changes
from indexer.queries.filters import Filters
from indexer.queries.index import Index
from indexer.queries.opening import open_index
from indexer.queries.runs import Page, TrialPage
from indexer.queries.types import RunRow, TrialRow

__all__ = ["Changes", "Filters", "Index", "IndexerError", "Page", "RunRow", "TrialPage", "TrialRow", "open_index"]
