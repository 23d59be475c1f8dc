"""Other people's programs: packages installed by name and version, peers that host actors, databases on our clock."""

from job_harness.worlds.packages import Node, find_node, newest_npm, newest_python, npm_package, python_package
from job_harness.worlds.peers.peer import Peer, PeerLost

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
