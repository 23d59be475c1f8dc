"""Other people's packages: installed by name and version into a cache of their own, and run in children of ours."""

from harness.foreign.child import Child, ChildDied, Reply, python_child
from harness.foreign.node import Node, find_node
from harness.foreign.npm import npm_package
from harness.foreign.pip import python_package

__all__ = ["Child", "ChildDied", "Node", "Reply", "find_node", "npm_package", "python_child", "python_package"]
