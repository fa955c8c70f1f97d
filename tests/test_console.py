"""Tables on a narrow terminal: names stay different, and what is left of one names the same."""

import io
import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import open_index
from indexer.cli import console
from tests.bundles import at, bundle, row
from tests.worlds import World


def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int, *args: object) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("NO_COLOR", "1")
    console.table(*args, right=["RATE"], wide=["RATE"])  # type: ignore[arg-type]
    return [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in capsys.readouterr().out.splitlines()]


def test_a_cut_name_is_a_prefix_that_names_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = ["claude-cli-with-a-long-name", "claude-sdk-with-a-long-name", "codex"]
    for number, target in enumerate(targets):
        rows = [row("a-test-with-a-name-that-is-long", target=target)]
        world.write(
            at(f"runs/e/2026-01-0{number + 5}T09-00-00-000Z", bundle(rows=rows, experiment=f"exp-{number}-long"))
        )
    world.sync()
    with open_index(world.db) as index:
        runs = list(index.each_run(sort="timestamp"))
        cells = [[run["run_id"], run["target"], "100%"] for run in runs]
        shown = lines(monkeypatch, capsys, 34, ["RUN", "TARGET", "RATE"], cells)
        assert len(shown) == 4, shown
        assert all(len(line) <= 34 for line in shown), shown
        names = [line.split() for line in shown[1:]]
        assert any(name.endswith("…") for pair in names for name in pair)
        for run, (run_name, target) in zip(runs, names, strict=True):
            assert index.run(run_name)["key"] == run["key"]
            assert [each["key"] for each in index.runs(target=target)] == [run["key"]]
        assert {len(index.history("a-test-with-…")["targets"])} == {3}


NAMES = st.text("ab-日\u0301", min_size=1, max_size=30).filter(lambda name: name[0] != "\u0301")


@settings(max_examples=200, deadline=None)
@given(
    st.sets(
        st.text("ab-日\u0301", min_size=1, max_size=30).filter(lambda name: name[0] != "\u0301"),
        min_size=1,
        max_size=12,
    ),
    st.integers(8, 40),
)
def test_names_stay_different(names: set[str], width: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        out = io.StringIO()
        patched.setattr(out, "isatty", lambda: True, raising=False)
        patched.setattr(sys, "stdout", out)
        patched.setenv("COLUMNS", str(width))
        patched.setenv("NO_COLOR", "1")
        console.table(["RUN"], [[name] for name in sorted(names)])
    shown = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in out.getvalue().splitlines()[1:]]
    assert len(set(shown)) == len(names)
    for name, text in zip(sorted(names), shown, strict=True):
        assert text == name or (text.endswith("…") and name.startswith(text[:-1]))
