"""ClickTransform: the Transform graph from the analyses of the window's months."""
