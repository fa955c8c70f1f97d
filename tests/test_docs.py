import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import addresses
from tests.questions import renewed

ROOT = Path(__file__).resolve().parent.parent


def test_the_command_reference_is_current() -> None:
    command = [
        sys.executable,
        "-m",
        "typer",
        "indexer.cli.commands",
        "utils",
        "docs",
        "--name",
        "indexer",
        "--title",
        "indexer",
    ]
    generated = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert (ROOT / "docs/commands.md").read_text().strip() == generated.strip(), "run scripts/docs"


def test_the_addresses_of_the_api_are_current() -> None:
    text = (ROOT / "docs/serve.md").read_text()
    assert text.count("| `/api/") > 10
    assert addresses.renewed(text) == text, "run scripts/docs"


@pytest.mark.slow
def test_the_quickstart_works(tmp_path: Path) -> None:
    copy = tmp_path / "indexer"
    names = (
        "scripts",
        "tests/fixtures",
        "tests/__init__.py",
        "tests/playground.py",
        "tests/inspect_logs.py",
        "indexer",
        "constraints.txt",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    )
    for name in names:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-r", ROOT / name, copy / name], check=True)
    # the environment that runs this test serves; making another one is what scripts/test itself shows to work
    (copy / "scripts/environment").write_text('set -euo pipefail; cd "$(dirname "${BASH_SOURCE[0]}")/.."\n')
    (copy / ".venv/bin").mkdir(parents=True)
    for command in ("indexer", "python"):
        (copy / ".venv/bin" / command).symlink_to(Path(sys.executable).with_name(command))
    done = subprocess.run([copy / "scripts/quickstart"], capture_output=True, text=True, check=True)
    assert "team: 7 added, 0 changed, 0 removed" in done.stdout
    assert "with_skills::2026-11-21T05-35-22-721Z" in done.stdout
    assert "local: 7 added, 0 changed, 0 removed" in done.stdout
    for run_id in ("p-llm", "h-oracle", "20261120T081500Z_5e11aa"):
        assert run_id in done.stdout
    assert "nightly: 28 added, 0 changed, 0 removed" in done.stdout
    text = (ROOT / "docs/questions.md").read_text()
    answered = renewed(text, copy / "quickstart/project", copy / ".venv/bin/indexer")
    assert answered.count("\n## ") == 10
    assert "beta/beta-2 fell by 77 points at about nightly-2026-10-21" in answered
    assert re.search(r"beta/beta-2 +daily/parse-csv +passed .* nightly-2026-10-21", done.stdout)
