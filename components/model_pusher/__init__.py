"""ModelPusher: TFX's Pusher, with a version that appears whole or not at all."""
