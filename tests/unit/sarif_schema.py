"""The part of the schema of SARIF 2.1.0 that `check` uses, from the specification: required properties, types, and
closed objects, so that a misspelt property fails."""

from __future__ import annotations

from typing import Any

TEXT: dict[str, Any] = {"type": "string"}
LEVEL: dict[str, Any] = {"enum": ["none", "note", "warning", "error"]}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def several(items: dict[str, Any], *, unique: bool = False) -> dict[str, Any]:
    return {"type": "array", "items": items, "uniqueItems": unique}


MESSAGE = closed({"text": {"type": "string", "minLength": 1}}, "text")
ARTIFACT = closed(
    {"uri": {"type": "string", "format": "uri-reference", "pattern": "^[^ \\\\]*$"}, "uriBaseId": TEXT}, "uri"
)
REGION = closed({"startLine": {"type": "integer", "minimum": 1}}, "startLine")
PHYSICAL = closed({"artifactLocation": ARTIFACT, "region": REGION}, "artifactLocation")
LOCATION = closed(
    {"id": {"type": "integer", "minimum": -1}, "physicalLocation": PHYSICAL, "message": MESSAGE}, "physicalLocation"
)
RULE = closed(
    {
        "id": TEXT,
        "name": TEXT,
        "shortDescription": MESSAGE,
        "fullDescription": MESSAGE,
        "help": MESSAGE,
        "defaultConfiguration": closed({"level": LEVEL}),
    },
    "id",
)
RESULT = closed(
    {
        "ruleId": TEXT,
        "ruleIndex": {"type": "integer", "minimum": -1},
        "level": LEVEL,
        "message": MESSAGE,
        "locations": several(LOCATION),
        "relatedLocations": several(LOCATION, unique=True),
        "partialFingerprints": {"type": "object", "additionalProperties": TEXT},
        "suppressions": several(
            closed(
                {
                    "kind": {"enum": ["inSource", "external"]},
                    "status": {"enum": ["accepted", "underReview", "rejected"]},
                },
                "kind",
            ),
            unique=True,
        ),
    },
    "message",
)
RUN = closed(
    {
        "tool": closed(
            {"driver": closed({"name": TEXT, "semanticVersion": TEXT, "rules": several(RULE, unique=True)}, "name")},
            "driver",
        ),
        "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
        "originalUriBaseIds": {"type": "object", "additionalProperties": closed({"description": MESSAGE})},
        "results": several(RESULT),
    },
    "tool",
)
SARIF = closed(
    {"$schema": {"type": "string", "format": "uri"}, "version": {"const": "2.1.0"}, "runs": several(RUN)},
    "version",
    "runs",
)
