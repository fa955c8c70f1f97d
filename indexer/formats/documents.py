"""Tolerant reading of JSON documents: bytes in, typed fields out.

A field of the wrong type never costs the document: it is dropped and the rest is read. So are the NaN and Infinity that
Python writes. Only invalid JSON, or a document without its required fields, is unreadable. The documents are declared
as structs and decoded in one step, without building undeclared parts, and texts are cleaned on the way; only if
something does not fit is the document decoded whole and fitted part by part.
"""

import math
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta
from pydantic_core import from_json

from indexer.masking import masked, masked_name, masked_tag
from indexer.protocols import MALFORMED, Folder, Unreadable
from indexer.records import utc


class _Kind(type):
    """The type of a text field that is cleaned. Claims every value as its instance, because msgspec checks that.

    `longest` is in characters; `numbers` accepts numbers as texts.
    """

    clean: Callable[[str], str | None]
    longest: int
    numbers: bool

    def __instancecheck__(cls, value: object) -> bool:
        return True


def _kind(clean: Callable[[str], str | None], *, longest: int = 10_000, numbers: bool = True) -> Any:
    return _Kind("Text", (), {"clean": staticmethod(clean), "longest": longest, "numbers": numbers})


def _make(kind: Any, value: object) -> str | None:
    """The `dec_hook` for msgspec: the cleaned value of a text field. Raises ValueError if it does not fit."""
    made: Callable[[str], str | None] = kind.clean
    if type(value) is str and len(value) <= kind.longest:
        return made(value if "\0" not in value else value.replace("\0", "\ufffd"))
    if kind.numbers and type(value) in (int, float):
        return made(str(value))
    raise ValueError("no such text")


Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = float
Amount = Annotated[float, Meta(ge=0)]
if TYPE_CHECKING:
    Text = str
    """A name that identifies something; numbers are names too."""
    Words = str
    """Free text by people or tools; it may hold a token."""
    Tag = str
    """A tag, as people gave it."""
    Time = str | None
    """UTC text."""
else:
    Text, Words, Tag = _kind(masked_name), _kind(masked), _kind(masked_tag, numbers=False)
    Time = _kind(utc, longest=sys.maxsize, numbers=False) | None


class Document(msgspec.Struct, kw_only=True, gc=False):
    """A JSON object of which only the declared fields are read."""


D = TypeVar("D", bound=Document)


def read_document(model: type[D], path: str, data: bytes) -> D:
    """The document in `data`. Raises Unreadable if it is not a JSON object or lacks a required field."""
    try:
        document: D = _decoder(model).decode(data)
        return document
    except (ValueError, RecursionError):  # it does not fit, holds NaN or Infinity, or is not JSON
        pass
    try:
        found = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        try:
            found = from_json(data)
        except ValueError as error:
            raise Unreadable(path, MALFORMED, f"invalid JSON: {error}") from None
    if not isinstance(found, dict):
        raise Unreadable(path, MALFORMED, "not a JSON object")
    try:
        return fitted(model, found)
    except _Unfit as why:
        raise Unreadable(path, MALFORMED, str(why)) from None


def fitted(model: type[D], found: Mapping[str, Any]) -> D:
    """A document of the fitting fields of a decoded object. Raises _Unfit if a required one does not fit."""
    kept = {}
    for field in msgspec.structs.fields(model):
        if field.encode_name in found:
            with suppress(_Unfit):
                kept[field.name] = _fit(found[field.encode_name], _hints(model)[field.name])
    try:
        return model(**kept)
    except TypeError as error:  # a required field is missing
        raise _Unfit(str(error).lower()) from None


class _Unfit(Exception):
    """A value does not fit its field's type."""


class _Shape(NamedTuple):
    """The parts of a type, for lists and objects."""

    items: Any = None
    most: int | None = None
    keys: Any = None
    values: Any = None
    document: type[Document] | None = None


def _fit(value: Any, kind: Any) -> Any:
    """The fitting parts of a value; a list element that does not fit becomes None, so that others keep their places.

    Raises _Unfit.
    """
    if isinstance(value, float) and not math.isfinite(value):
        value = None  # a required field rejects it
    shape = _shape(kind)
    if isinstance(value, dict) and shape.document is not None:
        return fitted(shape.document, value)
    if isinstance(value, dict) and shape.values is not None:
        found = {}
        for name, each in value.items():
            with suppress(_Unfit):
                found[_leaf(name, shape.keys)] = _fit(each, shape.values)
        return found
    if isinstance(value, list) and shape.items is not None:
        if shape.most is not None and len(value) > shape.most:
            raise _Unfit
        return [_fit_or_none(each, shape.items) for each in value]
    return _leaf(value, kind)


def _fit_or_none(value: Any, kind: Any) -> Any:
    try:
        return _fit(value, kind)
    except _Unfit:
        return None


def _leaf(value: Any, kind: Any) -> Any:
    """A value as its type takes it; 5.0 and "5" are integers."""
    for strict in (True, False):
        with suppress(ValueError, RecursionError):
            found = msgspec.convert(value, kind, strict=strict, dec_hook=_make)
            if not isinstance(found, float) or math.isfinite(found):  # "NaN" is a text
                return found
    raise _Unfit


@cache
def _shape(kind: Any) -> _Shape:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        most = next((each.max_length for each in arguments[1:] if isinstance(each, Meta)), None)
        return _shape(arguments[0])._replace(most=most)
    if origin in (Union, types.UnionType):
        shapes = map(_shape, arguments)
        return next((shape for shape in shapes if any(part is not None for part in shape)), _Shape())
    if origin is list:
        return _Shape(items=arguments[0])
    if origin is dict:
        return _Shape(keys=arguments[0], values=arguments[1])
    is_document = isinstance(kind, type) and issubclass(kind, Document)
    return _Shape(document=kind) if is_document else _Shape()


@cache
def _decoder(model: type[D]) -> "msgspec.json.Decoder[D]":
    return msgspec.json.Decoder(model, dec_hook=_make)


@cache
def _hints(model: type[Document]) -> dict[str, Any]:
    return get_type_hints(model, include_extras=True)


def read_or_note(folder: Folder, path: str, model: type[D], limit: int, broken: dict[str, str]) -> D | None:
    """The document in a file of at most `limit` bytes; None if there is none, or if it had to be noted in `broken`."""
    try:
        data = folder.read(path, limit)
        return None if data is None else read_document(model, path, data)
    except Unreadable as error:
        broken[path] = error.message
        return None
