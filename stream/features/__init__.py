"""What a config can say about the features of events, and how each is computed: a file a kind."""
