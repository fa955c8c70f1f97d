"""Errors that users see: each is one line that says what is wrong and, where possible, what to do."""


class IndexerError(Exception):
    """Base of every error that is shown as one line instead of a traceback."""


class SettingsError(IndexerError):
    """`indexer.toml`, an `INDEXER_*` variable or an option is wrong; the message names it."""


class SourceError(IndexerError):
    """The place of a source cannot be opened; its rows stay as they are."""


class IndexFileError(IndexerError):
    """The index file is missing, foreign, or cannot be written."""


class LockedError(IndexerError):
    """Another process writes this index; the message names it."""


class QueryError(IndexerError):
    """A filter, sort, limit or cursor that cannot be answered."""


class UnknownRunError(IndexerError):
    """A RUN that names no run, or more than one; or a run whose files cannot be shown."""


class UnknownTrialError(IndexerError):
    """A TRIAL that names no trial of the run, or more than one."""


class UnknownTestError(IndexerError):
    """A TEST that names no test, or tests of several suites; or sides that share no test."""


class StaleTokenError(IndexerError):
    """A change token from another generation, or older than the deletions kept: list again."""
