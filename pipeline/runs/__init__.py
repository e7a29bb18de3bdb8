"""Runs on one machine: what they read, do, leave behind, and what is done with that later."""
