"""Writes the addresses below /api, as the OpenAPI document has them, into docs/serve.md.

python -m tests.addresses PAGE
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from indexer.queries.question import Parameter
from indexer.web.openapi import ADDRESSES

_PART = re.compile(r"(<!-- addresses: [^\n]* -->\n).*?(<!-- end of addresses -->)", re.DOTALL)


def _row(name: str, says: str, parameters: Mapping[str, Parameter], filters: Sequence[str]) -> str:
    told = [f"`{each}`: {parameter.help}" for each, parameter in parameters.items()]
    return f"| `/api/{name}` | {says} | {' '.join([*told, *(['**filters**'] if filters else [])])} |"


def renewed(text: str) -> str:
    """The page with the addresses that there are."""
    rows = [_row(name, *address) for name, address in ADDRESSES.items()]
    table = "\n".join(["| address | answers | parameters |", "| --- | --- | --- |", *rows])
    return _PART.sub(lambda part: f"{part[1]}{table}\n{part[2]}", text)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(renewed(page.read_text()))
