from pathlib import Path

import pytest

from indexer.errors import SettingsError
from indexer.project import find_project
from indexer.records import span_seconds
from indexer.settings import config_text, load
from indexer.sources.folder import FolderSource
from tests.bundles import at, bundle
from tests.repos import Repo, git

EVALS = '[[source]]\nname = "evals"\nkind = "agentevals"\n'
FOLDER = '[[source]]\nname = "local"\nkind = "folder"\npath = "."\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


WRONG = [
    ("colour = 1\n" + FOLDER, "colour: there is no such key"),
    (FOLDER + "depth = 3\n", "source.0.depth: there is no such key"),
    (FOLDER.replace('path = "."\n', ""), "source.0.path: field required"),
    (FOLDER.replace('"."', "7"), "source.0.path: input is not a valid path"),
    (FOLDER.replace('"folder"', '"svn"'), "source.0: kind 'svn' is none of 'folder', 'git', 'agentevals'"),
    (FOLDER.replace('name = "local"\n', ""), "source.0.name: field required"),
    (FOLDER.replace('"local"', '""'), "source.0.name"),
    (FOLDER + FOLDER, "source.name: two sources are called 'local'"),
    (FOLDER.replace('"folder"', '"git"') + "refs = []\n", "source.0.refs"),
    (FOLDER.replace('"folder"', '"git"') + 'refs = "main"\n', "source.0.refs"),
    (FOLDER.replace('"folder"', '"git"') + 'wip = "perhaps"\n', "source.0.wip"),
    ('[[source]]\nname = "t"\nkind = "git"\n', "source.0: name either path or url"),
    (FOLDER.replace('"folder"', '"git"') + 'url = "https://x/y"\n', "source.0: name either path or url"),
    (FOLDER.replace('"folder"', '"git"') + 'fetch_every = "often"\n', "source.0.fetch_every: 'often' is not a span"),
    ('[[source]]\nname = "t"\nkind = "git"\nurl = "--upload-pack=x"\n', "source.0.url"),
    (FOLDER + '[[repo]]\nweb_url = "https://x/{sha}"\n', "repo.0.path: field required"),
    (FOLDER + '[[repo]]\npath = "."\nweb_url = "https://x/"\n', "repo.0.web_url: must start with http"),
    (FOLDER + '[[repo]]\npath = "."\nweb_url = "javascript:{sha}"\n', "repo.0.web_url: must start with http"),
    (FOLDER + '[[repo]]\npath = "."\nweb_url = "https://u:pw@x/{sha}"\n', "repo.0.web_url: must start with http"),
    (FOLDER + '[[repo]]\npath = "local"\n', "repo.path: two sources are called 'local'"),
    ('stale_after = "soon"\n' + FOLDER, "stale_after: 'soon' is not a span"),
    ("stale_after = 5\n" + FOLDER, "stale_after: must be text"),
    ("db = 5\n" + FOLDER, "db: must be text"),
    ('[threshold]\nagentv = "high"\n' + FOLDER, "threshold.agentv"),
    ("[threshold]\nagentv = 2\n" + FOLDER, "threshold.agentv"),
    ("[threshold]\nother = 1\n" + FOLDER, "threshold.other: there is no such key"),
    ("[threshold]\nagentevals = 1\n" + FOLDER, "threshold.agentevals: there is no such key"),
    (EVALS, "source.0: name either dsn_env or dsn"),
    (EVALS + 'dsn = "x"\ndsn_env = "X"\n', "source.0: name either dsn_env or dsn"),
    (EVALS + 'dsn_env = "postgresql://u:p@h"\n', "source.0.dsn_env: must be the name of an environment variable"),
    (EVALS + 'dsn = "x"\nschema = "a b"\n', "source.0.schema"),
    ("source = 3\n", "source"),
    ("", "source: name at least one"),
    ("db = \n", "Invalid value (at line 1"),
    (f"a = {'[' * 5000}", "nested too deep"),
    (f"a = {'9' * 5000}", "integer string conversion"),
]


@pytest.mark.parametrize(("text", "says"), WRONG)
def test_every_wrong_setting_is_one_line_that_names_it(here: Path, text: str, says: str) -> None:
    (here / "indexer.toml").write_text(text)
    with pytest.raises(SettingsError) as error:
        load(find_project())
    assert says in str(error.value)
    assert str(here / "indexer.toml") in str(error.value)
    assert "\n" not in str(error.value)


def test_paths_are_relative_to_the_file_and_it_is_found_from_below(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "indexer.toml").write_text(
        'db = "x/y.db"\n' + FOLDER + FOLDER.replace("local", "up").replace('"."', '".."')
    )
    (here / "a/b").mkdir(parents=True)
    monkeypatch.chdir(here / "a/b")
    project = find_project()
    _, sources = load(project)
    assert project.db == here / "x/y.db"
    assert [source.place for source in sources] == [str(here), str(here.parent)]
    assert find_project(db=Path("z.db")).db == here / "a/b/z.db"


def test_the_environment_comes_before_the_file_and_after_options(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "indexer.toml").write_text('stale_after = "2h"\n[threshold]\nagentv = 0.5\n' + FOLDER)
    (here / "other.toml").write_text(FOLDER)
    assert find_project().stale_after == 7200
    assert load(find_project())[0].options().agentv_threshold == 0.5
    monkeypatch.setenv("INDEXER_DB", "env.db")
    monkeypatch.setenv("INDEXER_STALE_AFTER", "3h")
    monkeypatch.setenv("INDEXER_THRESHOLD__AGENTV", "0.7")
    monkeypatch.setenv("INDEXER_ERRORS", "false")
    assert (find_project().db, find_project().stale_after) == (here / "env.db", 10800)
    assert find_project(db=Path("option.db")).db == here / "option.db"
    options = load(find_project())[0].options()
    assert (options.agentv_threshold, options.errors) == (0.7, False)
    monkeypatch.setenv("INDEXER_CONFIG", "other.toml")
    assert find_project().config == here / "other.toml"
    monkeypatch.setenv("INDEXER_STALE_AFTER", "never")
    with pytest.raises(SettingsError, match="INDEXER_STALE_AFTER: 'never'"):
        find_project()


def test_what_init_writes_is_read_back(here: Path) -> None:
    strange = here / 'a "quoted" \\ päth\n'
    strange.mkdir()
    (here / "indexer.toml").write_text(config_text(here, [FolderSource("local", strange)]))
    _, sources = load(find_project())
    assert sources[0].place == str(strange)


def test_a_broken_repository_around_a_project_is_no_source(here: Path) -> None:
    git("init", "--quiet", str(here))
    (here / ".git/packed-refs").write_text("garbage\n\0")
    (here / "jobs").mkdir()
    _, sources = load(find_project())
    assert [source.kind for source in sources] == ["folder"]


def test_spans() -> None:
    assert [span_seconds(text) for text in ("30s", "15m", "1h", "7d", "2w", " 5 m ")] == [
        30,
        900,
        3600,
        604800,
        1209600,
        300,
    ]
    for wrong in ("", "5", "h", "-1h", "1.5h", "1y", "1h30m"):
        with pytest.raises(ValueError, match="is not a span"):
            span_seconds(wrong)


def test_models_have_aliases(here: Path) -> None:
    (here / "indexer.toml").write_text(
        '[aliases]\n"gpt-x-2026-01-01" = "gpt-x"\n[[source]]\nname = "a"\nkind = "folder"\npath = "."\n'
    )
    options = load(find_project())[0].options()
    assert (options.model("gpt-x-2026-01-01"), options.model("gpt-y"), options.model(None)) == ("gpt-x", "gpt-y", None)


def test_a_repository_whose_runs_lie_on_other_refs_is_told(here: Path) -> None:
    repo = Repo(here)
    repo.commit(at("runs/e/2026-01-05T09-00-00-123Z", bundle()), ref="refs/heads/main")
    with pytest.raises(SettingsError, match="there are some in main: name it in refs"):
        load(find_project())
