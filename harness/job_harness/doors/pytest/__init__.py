"""The pytest plugin. `plugin` is what pytest loads; the rest is loaded when a test needs it."""
