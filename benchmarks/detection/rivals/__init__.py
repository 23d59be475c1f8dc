"""The public rivals that the package index has, each running the same small lease queue in its own campaign.

The runners are scripts of their own: they are executed by a Python that has the rival and not this project.
"""
