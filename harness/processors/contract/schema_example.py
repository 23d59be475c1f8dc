"""The smallest value that a JSON schema allows, where one can be made without search."""

from __future__ import annotations

from typing import Any

from harness.errors import UsageError

DEEPEST = 20
_FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def schema_example(schema: Any) -> Any:
    """Answer a value for a JSON schema. Raises UsageError where it takes a pattern or a rule that is not understood."""
    return _Maker(schema).make(schema, "$", 0)


class _Maker:
    def __init__(self, root: Any) -> None:
        self._root = root

    def make(self, schema: Any, where: str, depth: int) -> Any:
        if depth > DEEPEST:
            raise UsageError(f"the input schema nests without end at {where}", hint="Give examples = [...] instead.")
        if schema is True or schema == {}:
            return None
        if not isinstance(schema, dict):
            raise UsageError(f"the input schema allows nothing at {where}: {schema!r}")
        for key in ("const", "default"):
            if key in schema:
                return schema[key]
        for key in ("examples", "enum"):
            if schema.get(key):
                return schema[key][0]
        if "$ref" in schema:
            return self.make(self._resolve(schema["$ref"]), where, depth + 1)
        for key in ("anyOf", "oneOf"):
            if schema.get(key):
                return self.make(schema[key][0], where, depth + 1)
        if schema.get("allOf"):
            merged: dict[str, Any] = {}
            for part in schema["allOf"]:
                whole = self._resolve(part["$ref"]) if "$ref" in part else part
                merged["properties"] = {**merged.get("properties", {}), **whole.get("properties", {})}
                merged["required"] = [*merged.get("required", []), *whole.get("required", [])]
                merged |= {key: value for key, value in whole.items() if key not in ("properties", "required")}
            return self.make(merged, where, depth + 1)
        return self._of_type(schema, where, depth)

    def _of_type(self, schema: dict[str, Any], where: str, depth: int) -> Any:
        kind = schema.get("type", "object" if "properties" in schema else None)
        match kind[0] if isinstance(kind, list) else kind:
            case "object":
                known = schema.get("properties", {})
                needed = dict.fromkeys([*schema.get("required", []), *known])
                return {name: self.make(known.get(name, {}), f"{where}.{name}", depth + 1) for name in needed}
            case "array":
                return [self.make(schema.get("items", {}), f"{where}[]", depth + 1)] * max(1, schema.get("minItems", 1))
            case "string":
                return self._text(schema, where)
            case "integer" | "number":
                return _number(schema)
            case "boolean":
                return True
            case _:
                return None

    def _text(self, schema: dict[str, Any], where: str) -> str:
        if "pattern" in schema:
            raise UsageError(
                f"the input schema wants text like {schema['pattern']!r} at {where}, which is not made up here",
                hint="Give examples = [...] beside it.",
            )
        if "format" in schema:
            return _FORMATS.get(schema["format"], "text")
        text = "text".ljust(schema.get("minLength", 0), "t")
        return text[: schema.get("maxLength", len(text))]

    def _resolve(self, reference: str) -> Any:
        found = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            found = found[part] if part else found
        return found


def _number(schema: dict[str, Any]) -> Any:
    low = schema.get("minimum")
    if low is None and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + 1
    if low is not None:
        return low
    high = schema.get("maximum")
    if high is None and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - 1
    return 1 if high is None or high >= 1 else high
