"""Every question that an index answers, by name: a new one is a module and a line here."""

from indexer.queries import compare, drift, failures, flaky, history, leaderboard
from indexer.queries.question import Question

QUESTIONS: dict[str, Question] = {
    module.QUESTION.name: module.QUESTION for module in (compare, history, drift, leaderboard, flaky, failures)
}
