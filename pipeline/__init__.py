"""adclick's command line, config, DAG and runners."""

import importlib.util
import sys

# An environment of before 0.2.0 imports its commands by their old names, from folders that nothing else needs to reach.
if importlib.util.find_spec("adclick") is None:
    sys.stderr.write("error: this environment was made for another version of adclick\nIn a checkout: make setup.\n")
    sys.exit(2)
