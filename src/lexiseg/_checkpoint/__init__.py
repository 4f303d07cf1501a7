"""Reading checkpoints without running anything in them; weights/ is the door."""
