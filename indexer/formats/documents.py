"""Tolerant reading of JSON documents: bytes in, typed fields out.

A field of the wrong type is an unknown field, never a lost document: it is dropped and the rest is read. So is a
number that is none: Python writes NaN and Infinity. Only bytes that are no JSON, or a document that lacks what it is
about, are unreadable. The documents are declared as pydantic models, which read JSON in one step without building
the parts that nobody asked for.
"""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from indexer.formats.masking import masked, masked_name
from indexer.protocols import MALFORMED, Folder, Unreadable
from indexer.records import utc


class Document(BaseModel):
    """A JSON object of which only the declared fields are read."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=(), coerce_numbers_to_str=True)


D = TypeVar("D", bound=Document)

Int = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Amount = Annotated[float, Field(allow_inf_nan=False, ge=0)]
Text = Annotated[str, Field(max_length=10_000), AfterValidator(masked_name)]
"""A name, by which things are told apart."""
Words = Annotated[str, Field(max_length=10_000), AfterValidator(masked)]
"""What people or tools wrote of something; it may hold a token."""
Time = Annotated[str | None, AfterValidator(utc)]


def read_document(model: type[D], path: str, data: bytes) -> D:
    """The document in `data`. Raises Unreadable if it is no JSON object or lacks a required field."""
    try:
        return model.model_validate_json(data)
    except ValidationError as wrong:
        return _without_wrong_fields(model, path, data, wrong)


def _without_wrong_fields(model: type[D], path: str, data: bytes, wrong: ValidationError) -> D:
    try:
        document = from_json(data)
    except ValueError as error:
        raise Unreadable(path, MALFORMED, f"no valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise Unreadable(path, MALFORMED, "not a JSON object")
    for field in wrong.errors(include_url=False, include_context=False, include_input=False):
        _drop(document, field["loc"])
    try:
        return model.model_validate(document)
    except ValidationError as still:
        first = still.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Unreadable(path, MALFORMED, f"{where}: {first['msg'].lower()}") from None


def _drop(document: Any, where: Sequence[Any]) -> None:
    """Remove what lies at `where`; an element of a list becomes null, so that its neighbours keep their places."""
    for step in where[:-1]:
        if not _has(document, step):
            return
        document = document[step]
    if isinstance(document, list) and _has(document, where[-1]):
        document[where[-1]] = None
    elif isinstance(document, dict):
        document.pop(where[-1], None)


def _has(document: Any, step: Any) -> bool:
    if isinstance(document, list):
        return isinstance(step, int) and step < len(document)
    return isinstance(document, dict) and step in document


def read_or_note(folder: Folder, path: str, model: type[D], limit: int, broken: dict[str, str]) -> D | None:
    """The document in a file of at most `limit` bytes; None if there is none, or if it had to be noted in `broken`."""
    try:
        data = folder.read(path, limit)
        return None if data is None else read_document(model, path, data)
    except Unreadable as error:
        broken[path] = error.message
        return None
