"""The click model: features, preprocessing, network, training, evaluation and export."""
