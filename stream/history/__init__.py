"""Past events through the same operator as those to come: files of events in, drops to train on out."""
