"""A parsed script: its constants by name, and what it imports under which name."""

from __future__ import annotations

from dataclasses import dataclass, field

from tree_sitter import Node

from harness.lint.syntax import arguments_of, descend, text_of, unquoted


@dataclass(slots=True)
class Module:
    """A parsed file: its constants and what it imports, by local name."""

    path: str
    root: Node
    constants: dict[str, Node] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Local name -> the specifier, the name there."""

    @classmethod
    def of(cls, path: str, root: Node) -> Module:
        """Index a file."""
        module = cls(path, root)
        for node in descend(root):
            if node.type == "variable_declarator":
                module._declare(node)
            elif node.type == "import_specifier":
                module._import(node)
            elif node.type == "enum_assignment":
                name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
                if name is not None and value is not None:
                    module.constants.setdefault(text_of(name), value)
        return module

    def _declare(self, node: Node) -> None:
        name, value, parent = node.child_by_field_name("name"), node.child_by_field_name("value"), node.parent
        if name is None or value is None or parent is None:
            return
        if name.type == "object_pattern":
            self._require(name, value)
            return
        if name.type != "identifier":
            return
        kind = parent.child_by_field_name("kind")
        if parent.type == "lexical_declaration" and kind is not None and text_of(kind) == "const":
            self.constants.setdefault(text_of(name), value)

    def _require(self, pattern: Node, value: Node) -> None:
        """Read `const { A, B: C } = require("./there")`."""
        function, arguments = value.child_by_field_name("function"), arguments_of(value)
        if function is None or text_of(function) != "require" or not arguments:
            return
        for part in pattern.named_children:
            if part.type == "shorthand_property_identifier_pattern":
                self.imports[text_of(part)] = (unquoted(arguments[0]), text_of(part))
            elif part.type == "pair_pattern":
                key, alias = part.child_by_field_name("key"), part.child_by_field_name("value")
                if key is not None and alias is not None:
                    self.imports[text_of(alias)] = (unquoted(arguments[0]), text_of(key))

    def _import(self, node: Node) -> None:
        name, alias = node.child_by_field_name("name"), node.child_by_field_name("alias")
        statement: Node | None = node
        while statement is not None and statement.type != "import_statement":
            statement = statement.parent
        source = None if statement is None else statement.child_by_field_name("source")
        if name is not None and source is not None:
            self.imports[text_of(alias or name)] = (unquoted(source), text_of(name))
