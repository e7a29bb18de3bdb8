"""Alerts: one for one wave of suspicious clicks, and how people and programs are told."""
