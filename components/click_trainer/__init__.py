"""ClickTrainer: fits the click network and exports it as one SavedModel."""
