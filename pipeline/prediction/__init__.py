"""What the command line does with pushed models: serve, predict, explain, score a month."""
