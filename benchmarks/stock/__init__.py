"""What a good user of stock TFX would write for the same job, by TFX's own templates."""
