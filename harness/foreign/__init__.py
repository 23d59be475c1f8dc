"""Other people's programs: packages installed by name and version, peers that host actors, databases on our clock."""

from harness.foreign.packages import Node, find_node, newest_npm, newest_python, npm_package, python_package
from harness.foreign.peer import Peer, PeerLost

__all__ = [
    "Node",
    "Peer",
    "PeerLost",
    "find_node",
    "newest_npm",
    "newest_python",
    "npm_package",
    "python_package",
]
