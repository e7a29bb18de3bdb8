"""Compares what the gateway logged with what the served model was trained on, and with the clicks that came."""
