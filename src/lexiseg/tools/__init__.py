"""What looks after models: their checkpoints, what they lack, what they cost."""
