"""`adclick-edge`: what a screen shows, recognised on the device, without a network and without TensorFlow.

The folder is a distribution of its own (`deploy/edge/pyproject.toml`), in which it is called `adclick_edge`. So its
modules import each other by relative names and nothing else of adclick, and run on Python 3.9 to 3.13.
"""

RUNTIME_VERSION = "0.1.0"
