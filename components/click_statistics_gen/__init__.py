"""ClickStatisticsGen: what TFDV validates of a month, and what Transform needs of it, in one pass."""
