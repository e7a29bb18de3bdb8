"""Events as they come: features over windows of time, the model's judgement of each click, and alerts."""
