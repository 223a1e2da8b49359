"""qk-bench: is this image generator or editor really better than that one, and does the published claim hold?"""

__version__ = "0.1.0"
