"""BaselineModel: the last blessed model, told the creatives of the newest month."""
