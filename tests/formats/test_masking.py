import pytest

from indexer.formats.masking import LENGTH, error_line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("CLI exited with code 3", "CLI exited with code 3"),
        ("first\nsecond", "first"),
        ("\n\n  late", "late"),
        ("", None),
        ("cannot clone https://user:pa55@host/x", "cannot clone https://***@host/x"),
        ("postgres://u:p@ss@db:5432/x", "postgres://***@db:5432/x"),
        ("bad key sk-abcdefghijklmnop!", "bad key ***!"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("token=abcdefgh&x=1", "token=***&x=1"),
        ("use ghp_0123456789abcdefABCDEF now", "use *** now"),
        ("AKIAIOSFODNN7EXAMPLE denied", "*** denied"),
        ("postgres://u:p/ss@host down", "postgres://***@host down"),
        ("password: hunter22", "password: ***"),
        ('{"api_key": "abcd1234"}', '{"api_key": "***"}'),
        ("API_KEY = abcd1234", "API_KEY = ***"),
        ("run --api-key abcd1234 x", "run --api-key *** x"),
        ("AWS_SECRET_ACCESS_KEY='abcd/1234'", "AWS_SECRET_ACCESS_KEY='***'"),
        ("Bearer  two-spaces1", "Bearer  ***"),
        ("token expired", "token expired"),
        ("x" * 500, "x" * 200),
    ],
)
def test_credentials_are_masked(text: str, line: str | None) -> None:
    assert error_line(text) == line


def test_the_runs_own_secrets_are_masked_longest_first_and_short_words_stay() -> None:
    assert error_line("hunter2hunter2 said hunter2 to a", ["hunter2", "hunter2hunter2", "a"]) == "*** said *** to a"


def test_a_secret_across_the_cut_leaves_no_half() -> None:
    secret = "s3cret-value-of-some-length"
    line = error_line("x" * (LENGTH - 10) + secret, [secret])
    assert line is not None
    assert "s3cret" not in line
    assert len(line) <= LENGTH
