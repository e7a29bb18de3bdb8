"""`adclick edge`: bundles for devices, and a demonstration of what a device does with one."""
