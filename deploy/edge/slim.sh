#!/bin/sh
# Takes out of adclick-edge's environment what no device runs, a third of its size: sh slim.sh /opt/adclick-edge
# These are numpy's tests, and of LiteRT what speaks to GPUs and compiles for accelerators. An update of either package
# brings it back.
set -eu
site=$(echo "$1"/lib/python3*/site-packages)
[ -d "$site/ai_edge_litert" ] || { echo "slim.sh: $1: no environment that adclick-edge is installed in" >&2; exit 2; }
before=$(du --summarize --block-size=1K "$site" | cut -f1)
find "$site/numpy" -type d -name tests -prune -exec rm -r {} +
find "$site" -type d -name __pycache__ -prune -exec rm -r {} +
rm -rf "$site/ai_edge_litert/libLiteRtWebGpuAccelerator.so" "$site/ai_edge_litert/tools" "$site/ai_edge_litert/vendors" \
  "$site/ai_edge_litert/aot" "$site/ml_dtypes" "$site"/ml_dtypes.libs
after=$(du --summarize --block-size=1K "$site" | cut -f1)
echo "$site: $((before / 1024)) MB, now $((after / 1024)) MB"
